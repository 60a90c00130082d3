"""Eight bits lose no more than the bound says."""

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_inference.caches import Int8Cache

HEADS, DIM, TOKENS = 2, 16, 12


def read_back(key, value):
    cfg = Int8Cache.default_config().set(num_kv_heads=HEADS, head_dim=DIM)
    cache = cfg.instantiate()
    positions = jnp.tile(jnp.arange(TOKENS), (len(key), 1))
    state = cache.init(len(key), TOKENS, "float32")
    state, seen = jax.jit(cache.update)(state, key, value, positions)
    return state, np.float64(seen.key), np.float64(seen.value)


def draw(*shape):
    rng = np.random.default_rng(0)  # tokens differ in size by orders of magnitude
    x = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 3, size=(*shape[:-1], 1))
    return x.astype(np.float32)


def test_a_number_is_off_by_a_254th_of_the_largest_of_its_token_and_head():
    key, value = draw(2, 3, TOKENS, HEADS, DIM)
    key[0, 0] = 0
    _, keys, values = read_back(key, value)
    for x, read in ((key, keys), (value, values)):
        bound = np.abs(x).max(-1, keepdims=True) / 254
        assert (np.abs(read - x) <= bound * (1 + 1e-5)).all()  # float32 rounds the product
    np.testing.assert_array_equal(keys[0, 0], 0)


def test_a_token_takes_a_byte_for_each_number_and_four_for_each_head():
    state, *_ = read_back(*np.ones((2, 1, TOKENS, HEADS, DIM), np.float32))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert size == TOKENS * 2 * HEADS * (DIM + 4)


def test_attention_is_off_by_no_more_than_the_bound():
    rng = np.random.default_rng(1)
    key, value = rng.normal(size=(2, 1, TOKENS, HEADS, DIM)).astype(np.float32)
    query, scale = rng.normal(size=(50, HEADS, DIM)), DIM**-0.5
    _, keys, values = read_back(key, value)

    def attend(key, value):
        scores = scale * np.einsum("qhd,khd->hqk", query, key[0])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), value[0])

    off = np.abs(attend(keys, values) - attend(np.float64(key), np.float64(value))).max(-1)
    largest_key, largest_value = (np.abs(x).max((0, 1, 3)) for x in (key, value))
    d = scale * np.abs(query).sum(-1) * largest_key / 254  # [query, head], of scores
    assert (off <= np.expm1(2 * d) * largest_value + largest_value / 254).all()
