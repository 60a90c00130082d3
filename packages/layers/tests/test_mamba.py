"""Mamba-2 against its recurrence, token by token in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.module import functional
from axlearn_layers import (
    LayerList,
    Mamba2,
    Repeat,
    Residual,
    SequenceInfo,
    SSDInputs,
    flops_per_token,
    ssd,
)


def config(**fields):
    sizes = {"head_dim": 4, "state_dim": 5, "num_groups": 2, "chunk_size": 4}
    return Mamba2.default_config().set(**({"input_dim": 8} | sizes | fields))


def silu(x):
    return x / (1 + np.exp(-x))


def convolved(x, conv):
    padded = np.concatenate([np.zeros((3, *x.shape[1:])), x])
    return silu(
        conv["bias"] + sum(w * padded[i : i + len(x)] for i, w in enumerate(conv["weight"]))
    )


def recurrence(state, x):
    """One sequence, [seq, dim]: 4 heads of 4, in 2 groups."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    gate, value = np.moveaxis(np.tensordot(x, p["gate_value"]["weight"], 1), 2, 0)
    value = convolved(value, p["value_conv"])
    key_query = convolved(np.tensordot(x, p["key_query"]["weight"], 1), p["key_query_conv"])
    key, query = np.repeat(key_query, 2, axis=2).swapaxes(0, 1)
    step = np.log1p(np.exp(x @ p["step"]["weight"] + p["dt_bias"]))
    memory, outputs = np.zeros((4, 4, 5)), []
    for t in range(len(x)):
        memory *= np.exp(-step[t] * np.exp(p["a_log"]))[:, None, None]
        memory += np.einsum("h,hp,hn->hpn", step[t], value[t], key[t])
        y = np.einsum("hpn,hn->hp", memory, query[t]) + p["d"][:, None] * value[t]
        y = (y * silu(gate[t])).reshape(2, 8)
        y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5)
        outputs.append(np.tensordot(y.reshape(4, 4) * p["scale"], p["output"]["weight"], 2))
    return np.stack(outputs)


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 10, 8)).astype(np.float32)


@pytest.mark.parametrize("chunk_size", [1, 4, 64])  # 10 tokens: by one, with a rest, at once
def test_chunks_equal_the_recurrence(make, x, chunk_size):
    layer, state = make.build(config(chunk_size=chunk_size))
    expected = np.stack([recurrence(state, row) for row in x.astype(np.float64)])
    np.testing.assert_allclose(make.call(layer, state, x, SequenceInfo()), expected, atol=1e-5)


def test_strong_decay_overflows_nowhere(rng):
    draw = lambda *shape: jnp.asarray(rng.normal(size=(1, 12, *shape)), jnp.float32)  # noqa: E731

    def total(step):
        inputs = SSDInputs(draw(2, 3), step, draw(1, 5), draw(1, 5))
        return ssd(inputs, jnp.full(2, -16.0), jnp.zeros((1, 2, 3, 5)), jnp.zeros((1, 12), int), 6)[
            0
        ].sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.full((1, 12, 2), 50.0))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def hybrid(make):
    """Two blocks of Mamba and one of attention."""
    cfg = make.llama()
    mamba = Residual.default_config().set(inner=config().clone(head_dim=8))
    repeated = Repeat.default_config().set(layer=mamba, num_layers=2)
    cfg.stack = LayerList.default_config().set(layers=[repeated, cfg.stack.layer])
    return cfg


def test_prefill_and_decode_equal_the_whole_sequence_in_a_stack_with_attention(make):
    lm, state = make.build(hybrid(make))
    ids = make.batch(batch=2, seq=8)["input_ids"]
    expected = make.call(lm, state, {"input_ids": ids}, method="logits")
    # The first prompt has 5 tokens and one of padding, the second 6.
    lengths = np.int32([5, 6])
    prompt = np.where(np.arange(6) < lengths[:, None], ids[:, :6], 0)

    @jax.jit
    def extend(state, *inputs):
        return functional(lm, state=state, prng_key=None, inputs=inputs, method="extend")[0]

    logits, cache = extend(state, prompt, lm.init_cache(2, 8), lengths)
    np.testing.assert_allclose(logits[0, :5], expected[0, :5], atol=1e-4)
    np.testing.assert_allclose(logits[1, :6], expected[1, :6], atol=1e-4)
    following = np.stack([ids[0, 5:7], ids[1, 6:8]])
    for index in range(2):
        token = following[:, index : index + 1]
        logits, cache = extend(state, token, cache)
        np.testing.assert_allclose(logits[0, 0], expected[0, 5 + index], atol=1e-4)
        np.testing.assert_allclose(logits[1, 0], expected[1, 6 + index], atol=1e-4)


def test_the_cache_does_not_grow_with_the_length():
    layer = config().instantiate()
    short, long = (layer.init_cache(1, length, "bfloat16") for length in (8, 8000))
    assert jax.tree.map(jnp.shape, short) == jax.tree.map(jnp.shape, long)
    assert short["state"].dtype == jnp.float32


def test_initial_steps_and_decays_are_those_of_the_paper():
    specs = config(input_dim=256).instantiate().own_parameters()
    state = {name: spec.initializer(jax.random.key(0), spec) for name, spec in specs.items()}
    step = np.log1p(np.exp(state["dt_bias"]))
    assert 0.001 <= step.min() < 0.005 < 0.02 < step.max() <= 0.1
    assert 1 <= np.exp(state["a_log"]).min() < np.exp(state["a_log"]).max() <= 16


def test_flops_do_not_depend_on_the_length():
    layer = config().instantiate()
    assert flops_per_token(layer, 8) == flops_per_token(layer, 8000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_dim": 5}, r"head_dim \(=5\) must divide expand \* input_dim \(=16\)"),
        ({"num_groups": 3}, r"num_groups \(=3\) must divide the heads \(=4"),
    ],
)
def test_heads_that_do_not_divide_are_refused_when_built(fields, message):
    with pytest.raises(BuildError, match=message):
        config(**fields).instantiate()
