"""Rows of a cache are found and moved, whatever it is made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError, replace
from axlearn_inference.caches import (
    Int8Cache,
    PagedCache,
    RowAxis,
    put_rows,
    row_axes,
    take_rows,
)
from axlearn_inference.caches.rows import check_rows_apart
from axlearn_layers import KVCache, families

SIZES = {"vocab_size": 31, "dim": 16, "num_heads": 4, "num_kv_heads": 2, "hidden_dim": 24}


def on(new, cfg):
    replace(cfg, KVCache, new)
    return cfg


PAGED = PagedCache.default_config().set(page_size=4)
CACHES = {
    "contiguous": families.llama(**SIZES, num_layers=2),
    "nested": families.gemma3(**SIZES, num_layers=7, window=4),
    "int8": on(Int8Cache.default_config(), families.llama(**SIZES, num_layers=2)),
    "own pages": on(PAGED, families.llama(**SIZES, num_layers=2)),
    "recurrent": families.mamba2(vocab_size=31, dim=16, num_layers=3, head_dim=4, state_dim=4),
}


def numbered(make, count):
    """A cache that has in each row the row's number, made of caches of one row."""
    axes = row_axes(make)
    cache = make(count)
    for row in range(count):
        one = jax.tree.map(lambda leaf, row=row: jnp.full_like(leaf, row), make(1))
        cache = put_rows(cache, axes, jnp.array([row]), one)
    return axes, cache


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", CACHES)
def test_rows_are_taken_and_put_where_they_belong(name):
    model = CACHES[name].instantiate()
    make = partial(model.init_cache, max_length=8)
    axes, cache = numbered(make, 4)
    taken = take_rows(cache, axes, jnp.array([1, 0]))
    assert_equal(taken, jax.tree.map(lambda leaf: 1 - leaf, numbered(make, 2)[1]))

    put = put_rows(cache, axes, jnp.array([3, 9]), taken)  # there is no row 9
    rows = jnp.array([0, 1, 2, 1])
    assert_equal(put, take_rows(cache, axes, rows))


def test_a_repeated_layer_has_its_rows_on_the_second_axis():
    axes = row_axes(lambda rows: CACHES["contiguous"].instantiate().init_cache(rows, 8))
    assert axes["stack"] == {"key": RowAxis(1), "value": RowAxis(1)}
    assert axes["length"] == RowAxis(0)


def test_a_pool_of_pages_has_no_rows_and_is_handed_on_whole():
    cfg = on(PAGED.clone(num_pages=7), families.llama(**SIZES, num_layers=2))
    make = partial(cfg.instantiate().init_cache, max_length=8)
    axes, cache = row_axes(make), make(3)
    assert axes["stack"]["key"].array == RowAxis(None)
    taken = take_rows(cache, axes, jnp.array([1]))
    assert taken["stack"]["key"].array is cache["stack"]["key"].array
    written = {**taken, "stack": jax.tree.map(lambda leaf: leaf + 1, taken["stack"])}
    assert put_rows(cache, axes, jnp.array([1]), written)["stack"]["key"].array.all()


def test_rows_that_share_a_pool_cannot_be_copied():
    cfg = on(PAGED.clone(num_pages=7), families.llama(**SIZES, num_layers=2))
    axes = row_axes(partial(cfg.instantiate().init_cache, max_length=8))
    with pytest.raises(ConfigError, match=r"stack.key.array of the cache does not keep rows apart"):
        check_rows_apart(axes)


def test_what_does_not_grow_row_by_row_is_refused():
    with pytest.raises(ValueError, match="one axis may grow with the batch"):
        row_axes(lambda rows: {"scores": jnp.zeros((rows, rows))})
