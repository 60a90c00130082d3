"""The gated delta net against its recurrence, token by token in float64."""

import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.module import functional
from axlearn_layers import GatedDeltaNet, SequenceInfo, flops_per_token


def config(**fields):
    sizes = {"num_heads": 2, "num_value_heads": 4, "key_dim": 3, "value_dim": 5, "chunk_size": 4}
    return GatedDeltaNet.default_config().set(**({"input_dim": 8} | sizes | fields))


def silu(x):
    return x / (1 + np.exp(-x))


def convolved(x, conv):
    padded = np.concatenate([np.zeros((3, *x.shape[1:])), x])
    return silu(sum(w * padded[i : i + len(x)] for i, w in enumerate(conv["weight"])))


def recurrence(state, x):
    """One sequence, [seq, dim]: a_t S (I - beta k k^T) + beta v k^T, as the paper writes it."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    query_key = convolved(np.tensordot(x, p["query_key"]["weight"], 1), p["query_key_conv"])
    query_key /= np.sqrt((query_key**2).sum(-1, keepdims=True) + 1e-6)
    query, key = np.repeat(query_key, 2, axis=2).swapaxes(0, 1)
    value, gate = np.moveaxis(np.tensordot(x, p["value_gate"]["weight"], 1), 2, 0)
    value = convolved(value, p["value_conv"])
    rate, step = np.moveaxis(np.tensordot(x, p["rates"]["weight"], 1), 2, 0)
    rate = 1 / (1 + np.exp(-rate))
    decay = np.exp(-np.exp(p["a_log"]) * np.log1p(np.exp(step + p["dt_bias"])))
    memory, outputs = np.zeros((4, 5, 3)), []
    for t in range(len(x)):
        y = np.zeros((4, 5))
        for h in range(4):
            forget = np.eye(3) - rate[t, h] * np.outer(key[t, h], key[t, h])
            memory[h] = decay[t, h] * memory[h] @ forget
            memory[h] += rate[t, h] * np.outer(value[t, h], key[t, h])
            y[h] = memory[h] @ query[t, h] / np.sqrt(3)
        y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * p["norm"]["scale"]
        outputs.append(np.tensordot(y * silu(gate[t]), p["output"]["weight"], 2))
    return np.stack(outputs)


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 10, 8)).astype(np.float32)


@pytest.mark.parametrize("chunk_size", [1, 4, 64])  # 10 tokens: by one, with a rest, at once
def test_chunks_equal_the_recurrence(make, x, chunk_size):
    layer, state = make.build(config(chunk_size=chunk_size))
    expected = np.stack([recurrence(state, row) for row in x.astype(np.float64)])
    np.testing.assert_allclose(make.call(layer, state, x, SequenceInfo()), expected, atol=5e-5)


def test_prefill_with_padding_and_decode_equal_the_whole_sequence(make, x):
    layer, state = make.build(config())
    expected = make.call(layer, state, x, SequenceInfo())
    counts = (np.arange(6) < np.array([[4], [6]])).astype(np.int32)

    @jax.jit
    def extend(state, *inputs):
        return functional(layer, state=state, prng_key=None, inputs=inputs, method="extend")[0]

    cache = layer.init_cache(2, 10, "float32")
    y, cache = extend(state, x[:, :6], cache, SequenceInfo(segment_ids=counts))
    np.testing.assert_allclose(y[0, :4], expected[0, :4], atol=5e-5)
    np.testing.assert_allclose(y[1], expected[1, :6], atol=5e-5)
    for index in range(2):
        token = np.stack([x[0, 4 + index], x[1, 6 + index]])[:, None]
        y, cache = extend(state, token, cache, SequenceInfo())
        both = np.stack([expected[0, 4 + index], expected[1, 6 + index]])
        np.testing.assert_allclose(y[:, 0], both, atol=5e-5)


def test_flops_do_not_depend_on_the_length():
    layer = config().instantiate()
    assert flops_per_token(layer, 8) == flops_per_token(layer, 8000)


def test_heads_that_do_not_divide_are_refused_when_built():
    with pytest.raises(BuildError, match=r"num_heads \(=3\) must divide num_value_heads \(=4\)"):
        config(num_heads=3).instantiate()
