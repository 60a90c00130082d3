"""Rows of caches of every kind are copied and put in order."""

import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_inference.caches import PagedCache
from axlearn_inference.decoding.rows import take_rows
from axlearn_layers import ContiguousCache

LENGTH = 8


class Layers:
    """Two layers' caches, one on the other, as a scanned stack has them."""

    def __init__(self, cache):
        self.cache = cache.set(num_kv_heads=1, head_dim=2).instantiate(name="cache")

    def init_cache(self, batch_size, max_length, dtype):
        one = self.cache.init(batch_size, max_length, dtype)
        stacked = {name: jnp.stack([x, x]) for name, x in one.items()}
        return {"stack": stacked, "length": jnp.zeros(batch_size, jnp.int32)}


def filled(module, rows):
    """A cache in which each row holds its own number."""
    whole = module.init_cache(len(rows), LENGTH, "float32")
    values = np.asarray(rows, np.float32)

    def fill(x):
        by_row = np.repeat(values, x.shape[1] // len(rows))
        return jnp.broadcast_to(by_row.reshape(1, -1, *[1] * (x.ndim - 2)), x.shape)

    stack = {name: fill(x) for name, x in whole["stack"].items()}
    return {"stack": stack, "length": jnp.asarray(rows)}


@pytest.mark.parametrize(
    "cache",
    [ContiguousCache.default_config(), PagedCache.default_config().set(page_size=4)],
    ids=["contiguous", "paged"],
)
def test_rows_are_copied_whatever_the_cache(cache):
    module = Layers(cache)
    found = take_rows(
        module, filled(module, [5, 6]), jnp.array([1, 1, 0]), max_length=LENGTH, dtype="float32"
    )
    expected = filled(module, [6, 6, 5])
    assert found["length"].tolist() == [6, 6, 5]
    for name, x in expected["stack"].items():
        np.testing.assert_array_equal(found["stack"][name], x)


def test_a_pool_that_rows_share_is_refused():
    module = Layers(PagedCache.default_config().set(num_pages=9))
    cache = module.init_cache(2, LENGTH, "float32")
    with pytest.raises(ConfigError, match=r"stack.key of the cache does not keep rows apart"):
        take_rows(module, cache, jnp.array([0]), max_length=LENGTH, dtype="float32")
