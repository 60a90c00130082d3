"""A real model from end to end: imported, asked, fine-tuned, exported, and read by transformers."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers as hf

from axlearn_core.checkpoint import newest_intact
from axlearn_core.config import replace
from axlearn_core.module import functional
from axlearn_core.plugins import get_registry
from axlearn_core.training.saved_run import saved_config
from axlearn_experiments.text import trainer
from axlearn_huggingface.exporting import export_folder, published
from axlearn_huggingface.importing import import_folder
from axlearn_inference.decoding import complete
from axlearn_inference.loading import load
from axlearn_inference.request import Request, Sampling
from axlearn_inputs import DocumentInput, TextFiles
from axlearn_inputs.corpora import moby_dick
from axlearn_layers import LoRA, Projection

sys.path.append(str(Path(__file__).parent))
from smollm2 import write_folder

PROMPT = "The capital of France is"
PROMPT_IDS = [504, 3575, 282, 4649, 314]
# What is known to follow it, by these weights: log-probabilities in nats.
NEXT = {
    " Paris": -0.25807,
    " the": -2.74074,
    " London": -4.38435,
    " Le": -4.61987,
    " New": -4.67782,
}
STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The published model."""
    return write_folder(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def run(folder):
    """The directory of a run that was imported."""
    directory = folder.parent / "run"
    import_folder(folder, directory)
    return directory


def reloaded(folder):
    return hf.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def their_logits(model, ids):
    with torch.no_grad():
        return model(torch.as_tensor([ids])).logits[0].numpy()


def our_logits(model, ids):
    @jax.jit
    def logits(variables, ids):
        batch = ({"input_ids": ids},)
        found, _ = functional(
            model.module, state=variables, prng_key=None, inputs=batch, method="logits"
        )
        return found

    return np.asarray(logits(model.variables, np.array([ids], np.int32)))[0]


def test_smollm2_is_imported_asked_fine_tuned_and_exported(folder, run):
    model = load(run)
    tokenizer = model.tokenizer
    assert tokenizer.encode(PROMPT).tolist() == PROMPT_IDS
    theirs = hf.AutoTokenizer.from_pretrained(folder)
    for text in (moby_dick.chapters()[0][:3000], "1851 ünïcödé 日本 🐋\n\n\t<|im_end|>"):
        assert tokenizer.encode_markup(text).tolist() == theirs.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text

    ours, their_model = our_logits(model, PROMPT_IDS), reloaded(folder)
    # float32 sums of 576 to 1536 products in another order, in 30 layers.
    np.testing.assert_allclose(ours, their_logits(their_model, PROMPT_IDS), atol=2e-3)
    last = np.asarray(jax.nn.log_softmax(ours[-1]))
    assert {tokenizer.decode([i]) for i in np.argsort(last)[-5:]} == set(NEXT)
    for word, logprob in NEXT.items():
        assert last[tokenizer.encode(word)[0]] == pytest.approx(logprob, abs=1e-3)

    request = Request(tuple(PROMPT_IDS), 12, Sampling(temperature=0), end_ids=tokenizer.end_ids)
    (answer,) = complete(model, [request])
    expected = their_model.generate(
        torch.as_tensor([PROMPT_IDS]), max_new_tokens=12, do_sample=False
    )
    assert "Paris" in answer.text and answer.ids == expected[0, len(PROMPT_IDS) :].tolist()
    del their_model

    fine_tuned(run, folder.parent / "tuned")
    target = folder.parent / "exported"
    export_folder(published(newest_intact(folder.parent / "tuned").info), target)
    merged = load(folder.parent / "tuned")
    again = our_logits(merged, PROMPT_IDS)
    assert np.abs(again - ours).max() > 0.01  # it has learned something
    np.testing.assert_allclose(again, their_logits(reloaded(target), PROMPT_IDS), atol=2e-3)
    assert hf.AutoTokenizer.from_pretrained(target).encode(PROMPT) == PROMPT_IDS


def fine_tuned(run, directory):
    """Trains adapters on some pages of the novel for some steps."""
    base = saved_config(newest_intact(run).info, get_registry())
    pages = run.parent / "pages.txt"
    pages.write_text(moby_dick.chapters()[0][:20_000])
    data = DocumentInput.default_config().set(
        documents=TextFiles.Config(files=(str(pages),)),
        tokenizer=base.input.tokenizer,
        seq_len=32,
        batch_size=2,
    )
    adapter = LoRA.default_config().set(rank=4)
    replace(base.model.stack, Projection, lambda old: adapter.clone(inner=old))
    cfg = trainer(base.model, data, peak_rate=1e-4, max_step=STEPS)
    cfg.mesh_shape = {"data": 1}
    cfg.initialize_from.set(checkpoint=str(run), rules=[(r"(.*)\.inner\.(.*)", r"\1.\2")])
    cfg.instantiate().run(directory)
