"""The paged cache gives what the whole sequence gives, wherever its pages lie."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError, replace
from axlearn_core.module import functional
from axlearn_inference.caches import PAGE_TABLE, PagedCache
from axlearn_layers import KVCache
from axlearn_layers.families import llama

SIZE = 4
SIZES = {"vocab_size": 31, "dim": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}


@pytest.fixture(scope="module")
def model():
    paged = PagedCache.default_config().set(page_size=SIZE, num_pages=9)
    cfg = llama(**SIZES, hidden_dim=24)
    replace(cfg, KVCache, paged)
    model = cfg.instantiate()
    return model, jax.jit(model.initialize)(jax.random.key(0))


@partial(jax.jit, static_argnums=0)
def extend(model, state, ids, cache, table):
    (logits, cache), _ = functional(
        model,
        state=state,
        prng_key=None,
        inputs=(ids, cache),
        method="extend",
        provided={PAGE_TABLE: jnp.asarray(table)},
    )
    return logits, cache


@partial(jax.jit, static_argnums=0)
def logits(model, state, ids):
    inputs = ({"input_ids": ids},)
    return functional(model, state=state, prng_key=None, inputs=inputs, method="logits")[0]


def test_scattered_and_shared_pages_give_what_the_whole_sequence_gives(model):
    module, state = model
    rng = np.random.default_rng(0)
    shared = rng.integers(31, size=SIZE)
    ids = np.stack([np.concatenate([shared, rng.integers(31, size=5)]) for _ in range(2)])
    whole = logits(module, state, ids)
    cache = module.init_cache(2, 12, "float32")
    # The first page is written by the first row alone, and both read it.
    _, cache = extend(module, state, ids[:, :SIZE], cache, [[7, 9, 9], [9, 9, 9]])
    cache["length"] = jnp.array([SIZE, SIZE])
    table = [[7, 0, 3], [7, 5, 2]]
    first, cache = extend(module, state, ids[:, SIZE:7], cache, table)
    second, cache = extend(module, state, ids[:, 7:], cache, table)
    found = np.concatenate([first, second], axis=1)
    np.testing.assert_allclose(found, whole[:, SIZE:], atol=1e-5)


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigError, match="page_size"):
        PagedCache.default_config().set(page_size=0, num_kv_heads=1, head_dim=2).instantiate()
