import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_layers import LatentAttention, SequenceInfo

DIM, HEADS, RANK, CONTENT, TURNING, VALUE = 12, 3, 8, 6, 4, 5


def config(**fields):
    sizes = {"input_dim": DIM, "num_heads": HEADS, "kv_rank": RANK, "content_dim": CONTENT}
    return LatentAttention.default_config().set(
        **(sizes | {"rotary_dim": TURNING, "value_dim": VALUE, "theta": 50.0} | fields)
    )


def turn(x, positions):
    """Rotation as multiplication of complex numbers, in float64: x is [batch, seq, dim]."""
    half = x.shape[-1] // 2
    angles = positions[..., None] * 50.0 ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], -1)


def rms_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def formula(state, x, positions):
    """Equations 9 to 19 of arXiv:2405.04434, one head after the other, in float64."""
    state = jax.tree.map(lambda a: np.asarray(a, np.float64), state)
    down = x @ state["kv_down"]["weight"]
    latent = rms_norm(down[..., :RANK], state["kv_norm"]["scale"])
    shared_key = turn(down[..., RANK:], positions)
    if "query_down" in state:
        source = rms_norm(x @ state["query_down"]["weight"], state["query_norm"]["scale"])
    else:
        source = x
    causal = np.tril(np.ones((x.shape[1],) * 2, bool))
    result = 0
    for head in range(HEADS):
        query = source @ state["query"]["weight"][:, head]
        up = latent @ state["kv_up"]["weight"][:, head]
        query = np.concatenate([query[..., :CONTENT], turn(query[..., CONTENT:], positions)], -1)
        key = np.concatenate([up[..., :CONTENT], shared_key], -1)
        scores = query @ key.swapaxes(1, 2) / np.sqrt(CONTENT + TURNING)
        weights = np.exp(np.where(causal, scores, -np.inf))
        context = weights / weights.sum(-1, keepdims=True) @ up[..., CONTENT:]
        result = result + context @ state["output"]["weight"][head]
    return result


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 7, DIM)).astype(np.float32)


@pytest.mark.parametrize("query_rank", [None, 9])
def test_latent_attention_equals_float64_formula(make, x, query_rank):
    layer, state = make.build(config(query_rank=query_rank))
    y = make.call(layer, state, x, SequenceInfo())
    expected = formula(state, x, np.tile(np.arange(7.0), (2, 1)))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_the_cache_holds_the_latent_and_the_shared_key_only():
    layer = config().set(num_heads=50).instantiate()
    sizes = jax.tree.map(np.size, layer.init_cache(1, 10, "float32"))
    assert sum(jax.tree.leaves(sizes)) == 10 * (RANK + TURNING)


def test_an_odd_rotary_dim_is_refused():
    with pytest.raises(BuildError, match=r"rotary_dim \(=3\) must be even"):
        config(rotary_dim=3).instantiate()
