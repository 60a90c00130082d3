"""The lm-evaluation-harness gives our model the scores that it gives the same weights there."""

import json
import os

import pytest
import transformers as hf

from axlearn_core.errors import UserError
from axlearn_core.training.evaluator import TaskRequest
from axlearn_huggingface.families import LLAMA_WEIGHTS
from axlearn_huggingface.tokenizers import BytePairTrainer
from axlearn_layers.families import llama

pytest.importorskip("lm_eval", reason="pip install 'axlearn-inference[eval]'")
pytest.importorskip("accelerate", reason="the harness's own model needs it")

# Answers of assistants are trimmed, and there is no system role.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ '<|' + message.role + '|>' + message.content | trim + '<|endoftext|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LENGTH = 48  # of the model's longest text; some below are longer
QUESTIONS = [
    {"question": f"What is {a} + {b}?", "choices": [str(a + b), str(a - b), "a whale"], "label": 0}
    for a, b in ((1, 2), (17, 4), (30, 12), (8, 8), (99, 1))
]
TEXTS = [{"text": "Call me Ishmael. " * n + "The sea was calm."} for n in (1, 2, 9)]
TASKS = {
    "sums": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "fewshot_split": "test",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "novel": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "write": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}} ",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["e", "\n\n"], "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder with the tasks, and their data."""
    folder = tmp_path_factory.mktemp("tasks")
    os.environ.setdefault("HF_DATASETS_CACHE", str(folder / "cache"))
    for name, task in TASKS.items():
        lines = TEXTS if name == "novel" else QUESTIONS
        data = folder / f"{name}.jsonl"
        data.write_text("\n".join(map(json.dumps, lines)))
        whole = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            **task,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(whole))  # JSON is YAML
    return folder


@pytest.fixture(scope="module")
def both(make_pair, tmp_path_factory):
    """The harness's model of transformers, and ours, with the same weights and tokenizer."""
    from lm_eval.models.huggingface import HFLM

    from axlearn_inference.decoding import complete
    from axlearn_inference.evaluation.harness import HarnessModel
    from axlearn_inference.model import LanguageModel

    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [line["text"] for line in TEXTS] + [line["question"] for line in QUESTIONS]
    tokenizer = BytePairTrainer.Config(vocab_size=280).instantiate().train(texts, folder)
    sizes = {"vocab_size": 280, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
    config = hf.LlamaConfig(
        vocab_size=280,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=LENGTH,
        initializer_range=0.3,  # large, so that no two tokens are about as likely
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    ours = llama(**sizes, hidden_dim=48, theta=500.0, eps=1e-5)
    pair = make_pair(
        ours, hf.LlamaForCausalLM, config, LLAMA_WEIGHTS, tmp_path_factory.mktemp("pair")
    )
    their_tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = their_tokenizer.chat_template = TEMPLATE
    theirs = HFLM(pair.theirs, tokenizer=their_tokenizer, batch_size=3)
    model = LanguageModel("tiny", pair.ours, pair.state, tokenizer, "float32", 280)
    harness_model = HarnessModel(
        model,
        lambda requests: [each.text for each in complete(model, requests)],
        batch_size=3,
        max_length=LENGTH,
    )
    return theirs, harness_model


@pytest.mark.parametrize("fewshot", [0, 2])
def test_scores_are_those_of_the_same_weights_in_transformers(both, tasks, fewshot):
    from axlearn_inference.evaluation.evaluate import evaluate_model, find_tasks

    names = tuple(TASKS) if fewshot == 0 else ("sums",)
    request = TaskRequest(names, include_path=tasks, num_fewshot=fewshot)
    theirs, ours = (evaluate_model(model, request, *find_tasks(request)) for model in both)
    assert set(ours) == set(names)
    for task, metrics in theirs.items():
        assert metrics and ours[task] == pytest.approx(metrics, rel=1e-5), task


def requests(kind, *arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def test_answers_are_the_same_one_by_one(both):
    theirs, ours = both
    long = "Call me Ishmael. " * 12  # of which the end is taken
    pairs = [("a whale", " and"), ("", "The sea"), (long, " was calm."), ("trailing ", "space")]
    scored = requests("loglikelihood", *pairs)
    for (logprob, greedy), expected in zip(
        ours.loglikelihood(scored), theirs.loglikelihood(scored), strict=True
    ):
        assert logprob == pytest.approx(expected[0], rel=1e-5)
        assert greedy == expected[1]
    options = {"until": ["e"], "max_gen_toks": 10, "do_sample": False}
    prompts = ("What is", "The sea was", long, "<|endoftext|>3 + 4")
    asked = requests("generate_until", *((prompt, options) for prompt in prompts))
    texts = ours.generate_until(asked)
    assert texts == theirs.generate_until(asked)
    assert any(texts)


@pytest.mark.parametrize("multiturn", [True, False])
def test_questions_are_written_by_the_chat_template_as_there(both, tasks, multiturn, monkeypatch):
    from axlearn_inference.evaluation.evaluate import evaluate_model, find_tasks

    request = TaskRequest(
        ("sums", "write"),
        include_path=tasks,
        limit=2,
        num_fewshot=1,
        apply_chat_template=True,
        fewshot_as_multiturn=multiturn,
        system_instruction="Be brief.",
    )
    scores, asked = [], []
    for model in both:
        seen = {}
        for kind in ("loglikelihood", "generate_until"):
            answer = getattr(model, kind)

            def noting(requests, *words, kind=kind, answer=answer, seen=seen, **options):
                seen[kind] = [each.args[:2] for each in requests]
                return answer(requests, *words, **options)

            monkeypatch.setattr(model, kind, noting)
        scores.append(evaluate_model(model, request, *find_tasks(request)))
        asked.append(seen)
    theirs, ours = asked
    assert ours == theirs
    question = ours["loglikelihood"][0][0]
    assert question.startswith("<|user|>What is") and question.endswith(
        "<|endoftext|><|assistant|>"
    )
    assert question.count("<|user|>") == (2 if multiturn else 1)
    for task, metrics in scores[0].items():
        assert metrics and scores[1][task] == pytest.approx(metrics, rel=1e-5), task


def test_an_answer_that_has_begun_is_gone_on_with_as_there(both):
    theirs, ours = both
    for begun in ("The sum is", "The sum is "):  # the template trims it
        messages = [
            {"role": "user", "content": "What is 1 + 2?"},
            {"role": "assistant", "content": begun},
        ]
        found = ours.apply_chat_template(messages, add_generation_prompt=False)
        assert found == theirs.apply_chat_template(messages, add_generation_prompt=False)
        assert found.endswith("<|assistant|>The sum is")


def test_without_a_chat_template_there_are_no_messages(both, monkeypatch):
    _, ours = both
    monkeypatch.setattr(ours._ids, "chat_template", None)
    monkeypatch.delitem(vars(ours), "_chat", raising=False)
    with pytest.raises(UserError, match="has no chat template"):
        ours.apply_chat_template([{"role": "user", "content": "Hello"}])
