"""Soft targets; test_invariants.py holds their loss against all logits at once, in float64."""

import jax
import numpy as np
import pytest

from axlearn_core.kernels import SoftTargets, cross_entropy
from axlearn_core.module import functional
from axlearn_layers import LinearCrossEntropy

BATCH, SEQ, DIM, VOCAB = 2, 10, 6, 19


@pytest.fixture
def inputs(rng):
    """Hidden vectors, table and weights."""
    weights = rng.uniform(size=(BATCH, SEQ))
    weights[0, :3] = 0
    arrays = rng.normal(size=(BATCH, SEQ, DIM)), rng.normal(size=(VOCAB, DIM)), weights
    return tuple(a.astype(np.float32) for a in arrays)


def top(rng, k, total):
    """The k likeliest tokens of random distributions, together as likely as `total`."""
    p = rng.uniform(size=(BATCH, SEQ, VOCAB))
    ids = np.argsort(-p)[..., :k]
    p = np.take_along_axis(p, ids, -1)
    return SoftTargets(ids, (total * p / p.sum(-1, keepdims=True)).astype(np.float32))


def evaluate(hidden, table, weights, targets, chunk_size=4):
    """The loss and its gradients by hidden and table."""

    def loss(hidden, table):
        return cross_entropy(hidden, table, targets, weights, chunk_size=chunk_size).total

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(hidden, table)


def assert_close(actual, expected):
    """As closely as the loss of hard targets: float32 sums of a few hundred numbers."""
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(actual[1][0], expected[1][0], atol=2e-6)
    np.testing.assert_allclose(actual[1][1], expected[1][1], atol=5e-6)


def test_a_mixture_of_targets_has_the_mixture_of_the_losses(inputs, rng):
    teacher, ids = top(rng, 5, 1.0), rng.integers(0, VOCAB, (BATCH, SEQ))
    both = SoftTargets(
        np.concatenate([teacher.ids, ids[..., None]], -1),  # some ids come twice
        np.concatenate([0.7 * teacher.probabilities, np.full((BATCH, SEQ, 1), 0.3)], -1),
    )
    parts = evaluate(*inputs, teacher), evaluate(*inputs, ids)
    expected = jax.tree.map(lambda a, b: 0.7 * a + 0.3 * b, *parts)
    assert_close(evaluate(*inputs, both), expected)


def test_no_array_holds_all_logits(inputs, rng):
    jaxpr = str(jax.make_jaxpr(lambda *x: evaluate(*x, top(rng, 5, 1.0), chunk_size=2))(*inputs))
    assert f"[{BATCH},2,{VOCAB}]" in jaxpr
    assert f"[{BATCH},{SEQ},{VOCAB}]" not in jaxpr
    assert f"5,{BATCH},2,{VOCAB}]" not in jaxpr


def test_a_token_is_correct_if_its_likeliest_target_has_the_highest_logit(inputs, rng):
    hidden, table, weights = inputs
    targets = top(rng, 5, 1.0)
    targets = SoftTargets(targets.ids[..., ::-1], targets.probabilities[..., ::-1])
    layer = LinearCrossEntropy.default_config().instantiate()
    _, side = functional(layer, state={}, prng_key=None, inputs=(hidden, table, targets, weights))
    hits = (hidden @ table.T).argmax(-1) == targets.ids[..., -1]
    np.testing.assert_allclose(
        side.summaries["accuracy"], (hits * weights).sum() / weights.sum(), rtol=1e-6
    )


def test_a_model_whose_batch_has_probabilities_learns_them(make, rng):
    lm, state = make.build(make.llama())
    batch = make.batch()
    hard = make.call(lm, state, batch).total
    other = rng.integers(0, 37, batch["target_ids"].shape)
    soft = batch | {
        "target_ids": np.stack([batch["target_ids"], other], -1),
        "target_probabilities": np.tile(np.float32([0.75, 0.25]), (*other.shape, 1)),
    }
    expected = 0.75 * hard + 0.25 * make.call(lm, state, batch | {"target_ids": other}).total
    np.testing.assert_allclose(make.call(lm, state, soft).total, expected, rtol=1e-6)


def test_targets_of_another_shape_are_explained(make):
    lm, state = make.build(make.llama())
    batch = make.batch()
    several = batch | {"target_ids": batch["target_ids"][..., None]}
    with pytest.raises(ValueError, match=r"\(2, 12, 1\) must have .* target_probabilities"):
        make.call(lm, state, several)
    with pytest.raises(ValueError, match=r"\(2, 12, 1\) and \(2, 12, 3\)"):
        make.call(lm, state, several | {"target_probabilities": np.ones((2, 12, 3))})
