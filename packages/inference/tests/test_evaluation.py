"""Log-likelihoods are those of a whole forward pass, in whatever pieces and batches."""

import functools

import jax
import numpy as np
import pytest

from axlearn_core.module import functional
from axlearn_inference.evaluation import score, scoring
from axlearn_inference.model import LanguageModel
from axlearn_layers.families import llama

VOCAB = 31


@pytest.fixture(scope="module")
def model():
    cfg = llama(vocab_size=VOCAB, dim=16, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=24)
    module = cfg.instantiate(name="model")
    variables = jax.jit(module.initialize)(jax.random.key(0))
    variables["head"]["weight"] *= 4  # so that no two tokens are about as likely
    return LanguageModel("tiny", module, variables, None, "float32", VOCAB)


@functools.partial(jax.jit, static_argnums=0)
def whole(module, variables, ids):
    inputs = ({"input_ids": ids},)
    return functional(module, state=variables, prng_key=None, inputs=inputs, method="logits")[0]


def expected(model, context, continuation):
    """The same by one forward pass over all of it, summed in float64."""
    ids = [*context, *continuation][:-1]
    padded = np.zeros((1, 40), np.int32)
    padded[0, : len(ids)] = ids
    logits = whole(model.module, model.variables, padded)
    rows = np.asarray(logits, np.float64)[0, len(context) - 1 : len(ids)]
    logprobs = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    own = logprobs[np.arange(len(continuation)), continuation]
    return own.sum(), bool((rows.argmax(-1) == continuation).all())


def pairs(rng, *lengths):
    return [(rng.integers(VOCAB, size=a), rng.integers(VOCAB, size=b)) for a, b in lengths]


def test_scores_are_those_of_a_whole_forward_pass(model, monkeypatch):
    monkeypatch.setattr(scoring, "_LONGEST", 16)  # so that 40 tokens are read in pieces
    asked = pairs(np.random.default_rng(0), (1, 1), (5, 3), (30, 10), (3, 20), (16, 1))
    found = score(model, asked, batch_size=2)
    for pair, (logprob, is_greedy) in zip(asked, found, strict=True):
        total, greedy = expected(model, *pair)
        # float32 sums of some tens of terms
        assert logprob == pytest.approx(total, rel=1e-5) and is_greedy == greedy


def test_the_likeliest_continuation_is_greedy_and_no_other(model):
    context = [1, 2, 3]
    found = score(model, [(context, [token]) for token in range(VOCAB)], batch_size=32)
    (best,) = (token for token in range(VOCAB) if found[token].is_greedy)
    assert sum(np.exp(each.logprob) for each in found) == pytest.approx(1, rel=1e-5)
    assert expected(model, context, [best])[1]


def test_nothing_to_score_is_nothing(model):
    assert score(model, []) == []
