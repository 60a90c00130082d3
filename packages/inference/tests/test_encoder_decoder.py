"""An encoder-decoder through `generate`, against one forward pass over prompts and texts."""

import jax
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.module import functional
from axlearn_inference import LanguageModel, Request, Sampling, beam_search, complete
from axlearn_inference.engine import Engine
from axlearn_inference.evaluation import score
from axlearn_inference.speculative import LookupDraft, SpeculativeDecoder
from axlearn_layers.families import t5

VOCAB, START = 29, 3
PROMPTS = ((1, 2, 3), (7,), (5, 4, 3, 11, 9))
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def t5_model(drawn):
    cfg = t5(vocab_size=VOCAB, dim=16, num_layers=1, num_heads=4, head_dim=4, hidden_dim=24)
    module = cfg.set(start_id=START).instantiate(name="model")
    return LanguageModel("t5", module, drawn(module), None, "float32", VOCAB)


@pytest.fixture(scope="module")
def next_scores(t5_model):
    """Scores of what follows each id of a text, the start id among them."""

    @jax.jit
    def whole(batch):
        scores, _ = functional(
            t5_model.module,
            state=t5_model.variables,
            prng_key=None,
            inputs=(batch,),
            method="logits",
        )
        return scores

    def next_scores(prompt, text):
        encoder_ids, ids = np.zeros((1, 8), np.int32), np.zeros((1, 16), np.int32)
        encoder_ids[0, : len(prompt)], ids[0, : len(text) + 1] = prompt, [START, *text]
        real = (np.arange(8) < len(prompt)).astype(np.int32)[None]
        batch = {"encoder_ids": encoder_ids, "encoder_segment_ids": real, "input_ids": ids}
        return np.asarray(whole(batch), np.float64)[0, : len(text) + 1]

    return next_scores


@pytest.fixture(scope="module")
def texts(t5_model):
    """Greedy ones, and one with a penalty, of a prompt that another has too."""
    penalty = Sampling(temperature=0, repetition_penalty=3.0)
    batch = [Request(each, 10, GREEDY) for each in PROMPTS] + [Request(PROMPTS[0], 10, penalty)]
    return [found.ids for found in complete(t5_model, batch)]


def test_greedy_is_the_argmax_of_the_whole_forward_pass(texts, next_scores):
    for prompt, ids in zip(PROMPTS, texts[:3], strict=True):
        assert ids == next_scores(prompt, ids)[:-1].argmax(-1).tolist()
    assert len(set(map(tuple, texts[:3]))) == 3  # prompts matter


def test_penalties_count_the_text_and_not_the_prompt(texts, next_scores):
    for count, token in enumerate(texts[3]):
        scores = next_scores(PROMPTS[0], texts[3][:count])[-1]
        for i in {START, *texts[3][:count]}:
            scores[i] = scores[i] / 3 if scores[i] > 0 else scores[i] * 3
        assert token == scores.argmax()
    assert texts[3] != texts[0]


def test_beams_have_the_log_probabilities_of_the_whole_forward_pass(t5_model, next_scores):
    found = beam_search(t5_model, PROMPTS[2], beams=3, max_tokens=5)
    for each in found:
        scores = next_scores(PROMPTS[2], each.ids)[:-1]
        logprobs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        own = logprobs[np.arange(5), each.ids]
        np.testing.assert_allclose(each.logprobs, own, atol=1e-5)
    assert len({each.ids for each in found}) == 3


@pytest.mark.parametrize(
    ("reader", "use"),
    [
        ("the engine", lambda model: Engine.default_config().instantiate(model=model)),
        ("score", lambda model: score(model, [((1,), (2,))])),
        ("speculative decoding", lambda model: SpeculativeDecoder(model, LookupDraft(VOCAB))),
    ],
)
def test_what_reads_prompt_and_text_as_one_refuses_it(t5_model, reader, use):
    with pytest.raises(UserError, match=f"t5 is an encoder-decoder, and {reader} .*axl generate"):
        use(t5_model)
