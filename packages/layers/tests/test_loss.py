import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.kernels import cross_entropy
from axlearn_core.module import functional
from axlearn_layers import LinearCrossEntropy

BATCH, SEQ, DIM, VOCAB = 2, 10, 6, 19


@pytest.fixture
def inputs(rng):
    weights = rng.uniform(size=(BATCH, SEQ))
    weights[0, :3] = 0
    return (
        rng.normal(size=(BATCH, SEQ, DIM)).astype(np.float32),
        rng.normal(size=(VOCAB, DIM)).astype(np.float32),
        rng.integers(0, VOCAB, (BATCH, SEQ)),
        weights.astype(np.float32),
    )


def test_gradients_follow_what_the_loss_is_multiplied_by(inputs):
    def loss(scale, hidden):
        return scale * cross_entropy(hidden, *inputs[1:], chunk_size=4).total

    once, thrice = (jax.grad(loss, argnums=1)(scale, inputs[0]) for scale in (1.0, 3.0))
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)


def test_evaluating_computes_no_gradients(inputs):
    def count_products(function):
        text = str(jax.make_jaxpr(function)(inputs[0]))
        return text.count("dot_general")

    def loss(hidden):
        return cross_entropy(hidden, *inputs[1:], chunk_size=5).total

    assert count_products(loss) == 1
    assert count_products(jax.grad(loss)) == 3


def test_no_array_holds_all_logits(inputs):
    def loss(hidden, table):
        return cross_entropy(hidden, table, *inputs[2:], chunk_size=2).total

    jaxpr = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*inputs[:2]))
    assert f"[{BATCH},2,{VOCAB}]" in jaxpr
    assert f"[{BATCH},{SEQ},{VOCAB}]" not in jaxpr
    assert f"5,{BATCH},2,{VOCAB}]" not in jaxpr


def test_summaries_are_means_over_weighted_tokens(inputs):
    layer = LinearCrossEntropy.Config(z_loss_scale=0.01).instantiate()
    total, side = functional(layer, state={}, prng_key=None, inputs=inputs)
    weight = inputs[3].sum()
    means = side.summaries
    np.testing.assert_allclose(means["cross_entropy"] + means["z_loss"], total / weight, rtol=1e-6)
    hits = (inputs[0] @ inputs[1].T).argmax(-1) == inputs[2]
    np.testing.assert_allclose(means["accuracy"], (hits * inputs[3]).sum() / weight, rtol=1e-6)


def test_a_batch_without_targets_costs_nothing(inputs):
    layer = LinearCrossEntropy.default_config().instantiate()
    hidden, table, targets, weights = inputs
    total, side = functional(
        layer, state={}, prng_key=None, inputs=(hidden, table, targets, 0 * weights)
    )
    assert total == 0 and side.summaries["cross_entropy"] == 0


def test_logits_are_float32_for_bfloat16_activations(inputs):
    hidden = jnp.asarray(inputs[0], jnp.bfloat16)
    table = np.asarray(jnp.asarray(inputs[1], jnp.bfloat16), np.float32)
    total = cross_entropy(hidden, inputs[1], *inputs[2:], chunk_size=4).total
    logits = np.asarray(hidden, np.float64) @ np.float64(table).T
    chosen = np.take_along_axis(logits, inputs[2][..., None], axis=-1)[..., 0]
    expected = (inputs[3] * (np.log(np.exp(logits).sum(-1)) - chosen)).sum()
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_bfloat16_gradients_of_one_chunk_are_near_those_of_float32(inputs):
    hidden, table, ids, weights = inputs

    def gradients(dtype):
        def total(hidden, table):
            return cross_entropy(hidden.astype(dtype), table, ids, weights, chunk_size=64).total

        return jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.asarray(hidden), jnp.asarray(table))

    for got, want in zip(gradients("bfloat16"), gradients("float32"), strict=True):
        # 8 bits of mantissa, and sums of a few dozen terms.
        np.testing.assert_allclose(got, want, rtol=0, atol=0.02 * np.abs(want).max())


def test_smoothing_of_everything_is_refused_when_built(make):
    cfg = make.llama()
    cfg.loss.label_smoothing = 1.0
    with pytest.raises(BuildError, match=r"label_smoothing \(=1.0\) must be at least 0"):
        cfg.instantiate()
