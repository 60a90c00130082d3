"""Every registered component under its contract, each with the smallest example."""

import jax
import numpy as np

from axlearn_core.testing.contracts import (
    CommandContract,
    LayerContract,
    NamedContract,
    check_coverage,
)
from axlearn_inference.caches import Int8Cache, PagedCache, SlidingCache

BATCH, HEADS, DIM = 4, 2, 4
SIZES = {"num_kv_heads": HEADS, "head_dim": DIM}


class OfCaches(LayerContract):
    method = "update"

    def inputs(self, rng):
        def draw(leaf):
            return rng.integers(-9, 9, size=leaf.shape).astype(leaf.dtype)

        state = jax.tree.map(draw, self.config().instantiate().init(BATCH, 6, "float32"))
        key, value = rng.normal(size=(2, BATCH, 2, HEADS, DIM)).astype(np.float32)
        return state, key, value, np.tile(np.int32([3, 4]), (BATCH, 1))


class TestPagedCache(OfCaches):
    def config(self):
        return PagedCache.Config(**SIZES, page_size=2)


class TestSlidingCache(OfCaches):
    def config(self):
        return SlidingCache.Config(**SIZES, window=3)


class TestInt8Cache(OfCaches):
    def config(self):
        return Int8Cache.Config(**SIZES)


class TestCommands(CommandContract):
    distribution = "axlearn-inference"


class TestHarness(NamedContract):
    kind = "evaluator"
    name = "axlearn-inference/lm-eval"


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-inference", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
