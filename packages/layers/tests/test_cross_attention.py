import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError, ConfigError
from axlearn_layers import CrossAttention, Memory, SequenceInfo

DIM, HEADS, KV, HEAD_DIM, MEMORY_DIM = 12, 4, 2, 5, 9


def config(**fields):
    sizes = {"input_dim": DIM, "num_heads": HEADS, "num_kv_heads": KV, "head_dim": HEAD_DIM}
    return CrossAttention.default_config().set(**(sizes | {"memory_dim": MEMORY_DIM} | fields))


def formula(state, x, memory, allowed):
    """One query head after the other, in float64."""
    state = jax.tree.map(lambda a: np.asarray(a, np.float64), state)
    result = 0
    for head in range(HEADS):
        query = x @ state["query"]["weight"][:, head]
        key, value = (
            memory @ state["key_value"]["weight"][:, i, head * KV // HEADS] for i in (0, 1)
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(HEAD_DIM)
        weights = np.exp(np.where(allowed, scores, -np.inf))
        context = weights / weights.sum(-1, keepdims=True) @ value
        result = result + context @ state["output"]["weight"][head]
    return result


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 5, DIM)).astype(np.float32)


@pytest.fixture
def memory(rng):
    return rng.normal(size=(2, 7, MEMORY_DIM)).astype(np.float32)


def test_cross_attention_equals_float64_formula(make, x, memory):
    layer, state = make.build(config())
    y = make.call(layer, state, x, SequenceInfo(memory=Memory(memory)))
    np.testing.assert_allclose(y, formula(state, x, memory, True), atol=1e-5)


def test_padding_of_the_memory_is_not_read(make, x, memory):
    layer, state = make.build(config())
    segments = np.array([[1] * 7, [1] * 4 + [0] * 3])
    y = make.call(layer, state, x, SequenceInfo(memory=Memory(memory, segments)))
    expected = formula(state, x, memory, segments[:, None] == 1)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_packed_targets_read_the_memory_of_their_number(make, x, memory):
    layer, state = make.build(config())
    segments, memory_segments = np.array([[1, 1, 1, 2, 2]] * 2), np.array([[1] * 3 + [2] * 4] * 2)
    info = SequenceInfo(segment_ids=segments, memory=Memory(memory, memory_segments))
    allowed = segments[:, :, None] == memory_segments[:, None]
    expected = formula(state, x, memory, allowed)
    np.testing.assert_allclose(make.call(layer, state, x, info), expected, atol=1e-5)


def test_decoding_reads_the_memory_once(make, x, memory):
    layer, state = make.build(config())
    segments = np.array([[1] * 7, [1] * 4 + [0] * 3])
    whole = make.call(layer, state, x, SequenceInfo(memory=Memory(memory, segments)))
    cache = layer.init_cache(2, 8, "float32")
    info = SequenceInfo(memory=Memory(memory, segments))
    first, cache = make.call(layer, state, x[:, :2], cache, info, method="extend")
    second, _ = make.call(layer, state, x[:, 2:], cache, SequenceInfo(), method="extend")
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, atol=1e-5)


def test_without_a_memory_the_error_says_where_it_comes_from(make, x):
    layer, state = make.build(config())
    with pytest.raises(ConfigError, match=r"root has nothing to read.*EncoderDecoder"):
        make.call(layer, state, x, SequenceInfo())
    with pytest.raises(ConfigError, match="give it to the first `extend`"):
        make.call(layer, state, x, {}, SequenceInfo(), method="extend")


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(BuildError, match=r"num_kv_heads \(=3\) must divide num_heads \(=4\)"):
        config(num_kv_heads=3).instantiate()
