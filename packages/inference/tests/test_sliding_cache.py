"""A ring shows what a window lets a query see, however the tokens come."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError, find
from axlearn_core.kernels import causal, window
from axlearn_inference.caches import Int8Cache, SlidingCache, put_sliding
from axlearn_layers import Attention, ContiguousCache, families
from axlearn_layers.cache import NOWHERE

WINDOW = 4
SIZES = {"vocab_size": 31, "dim": 16, "num_heads": 4, "num_kv_heads": 2, "hidden_dim": 24}


class Rows:
    """Two sequences whose token at position p has the key and the value p + 1, and their cache."""

    def __init__(self, **fields):
        cfg = SlidingCache.default_config().set(num_kv_heads=1, head_dim=1, **fields)
        self.cache = cfg.instantiate()
        self.update = jax.jit(self.cache.update)
        self.state = self.cache.init(2, 100, "float32")
        self.lengths = np.zeros(2, int)

    def read(self, *counts):
        """Reads so many tokens of each sequence, the fewer padded at their end."""
        offsets = np.arange(max(counts))
        positions = self.lengths[:, None] + offsets
        padded = np.where(offsets < np.array(counts)[:, None], positions, NOWHERE)
        new = jnp.asarray(positions + 1.0)[..., None, None]
        self.state, seen = self.update(self.state, new, new, jnp.asarray(padded))
        seen = jax.tree.map(np.asarray, seen)
        for row, count in enumerate(counts):
            for query in positions[row, :count]:
                self.check(query, seen.key[row, :, 0, 0], seen.positions[row])
                self.check(query, seen.value[row, :, 0, 0], seen.positions[row])
        self.lengths += counts

    def check(self, query, tokens, positions):
        visible = (positions <= query) & (query - positions < WINDOW)
        expected = np.arange(max(query - WINDOW + 1, 0), query + 1)
        np.testing.assert_array_equal(np.sort(tokens[visible]), expected + 1)
        np.testing.assert_array_equal(np.sort(positions[visible]), expected)


def test_prompts_longer_than_the_ring_then_chunks_then_single_tokens_see_their_window():
    rows = Rows(window=WINDOW)
    for counts in [(11, 2), (1, 1), (3, 11), (0, 3), (1, 0), (1, 1), (2, 3), (1, 1), (1, 1)]:
        rows.read(*counts)
    assert rows.state["key"].shape == (2, 1, WINDOW, 1)


def test_without_a_window_nothing_is_overwritten():
    rows = Rows()
    assert rows.state["key"].shape == (2, 1, 100, 1)
    for counts in [(11, 2), (1, 1), (3, 11)]:
        rows.read(*counts)


@pytest.mark.parametrize("going_on", [1, 3])
def test_one_token_more_than_is_spare_may_be_forgotten(going_on):
    rows = Rows(window=WINDOW, spare=2)
    assert rows.cache.rewinds == 3
    for forgotten in (3, 2, 1):
        rows.read(3, 3)
        rows.read(3, 3)
        rows.lengths -= forgotten
        rows.read(going_on, going_on)


def test_a_ring_says_how_far_it_can_go_back():
    assert Rows(window=WINDOW).cache.rewinds == 1
    assert Rows().cache.rewinds == float("inf")


def test_only_layers_with_a_window_get_a_ring():
    cfg = families.gemma3(**SIZES, num_layers=7, window=WINDOW)
    assert len(put_sliding(cfg)) == 6  # five of the pattern, and one after it
    kinds = {(node.mask.reach, type(node.cache)) for _, node in find(cfg, Attention)}
    assert kinds == {(WINDOW, SlidingCache.Config), (None, ContiguousCache.Config)}


def test_a_ring_is_as_long_as_the_window_of_its_layer():
    cfg = families.gemma3(**SIZES, num_layers=6, window=WINDOW)
    put_sliding(cfg, Int8Cache.default_config().set(inner=SlidingCache.default_config()))
    leaves = jax.tree.leaves(cfg.instantiate().init_cache(1, 100)["stack"])
    assert {leaf.shape[-2] for leaf in leaves} == {WINDOW, 100}


def test_layers_that_offer_their_keys_keep_their_cache():
    cfg = families.afm(**SIZES, num_layers=3, head_dim=8, num_sharing_layers=1)
    for _, attention in find(cfg, Attention):
        attention.mask = causal() & window(WINDOW) if attention.offers_keys else causal()
    with pytest.raises(ConfigError, match="no attention layer has a mask with a window"):
        put_sliding(cfg)
