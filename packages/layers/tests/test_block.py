import numpy as np
import pytest

from axlearn_core.config import replace
from axlearn_core.module import parameter_count
from axlearn_layers import (
    Block,
    BranchNormBlock,
    DenseFeedForward,
    ParallelBlock,
    PostNormBlock,
    SandwichBlock,
    SequenceInfo,
    SequenceLayer,
    TransformerBlock,
)

DIM, HIDDEN = 6, 8


class Averaging(SequenceLayer):
    """A stand-in for attention: the mean of all tokens up to each."""

    class Config(SequenceLayer.Config):
        pass

    def forward(self, x, info):
        return x.cumsum(1) / np.arange(1, x.shape[1] + 1)[:, None]


def branches(state):
    """Attention, feed-forward, and a norm by its name, in float64."""
    state = {name: _float64(value) for name, value in state.items()}
    up, down = state["feed_forward"]["up"], state["feed_forward"]["down"]

    def attend(x):
        return x.cumsum(1) / np.arange(1, x.shape[1] + 1)[:, None]

    def feed(x):
        hidden = np.maximum(x @ up["weight"] + up["bias"], 0)
        return hidden @ down["weight"] + down["bias"]

    def norm(name, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * state[name]["scale"]

    return attend, feed, norm


def _float64(tree):
    if isinstance(tree, dict):
        return {name: _float64(value) for name, value in tree.items()}
    return np.asarray(tree, np.float64)


def pre(x, attend, feed, norm):
    h = x + attend(norm("attention_norm", x))
    return h + feed(norm("feed_forward_norm", h))


def post(x, attend, feed, norm):
    h = norm("attention_norm", x + attend(x))
    return norm("feed_forward_norm", h + feed(h))


def branch(x, attend, feed, norm):
    h = x + norm("attention_norm", attend(x))
    return h + norm("feed_forward_norm", feed(h))


def sandwich(x, attend, feed, norm):
    h = x + norm("attention_output_norm", attend(norm("attention_norm", x)))
    return h + norm("feed_forward_output_norm", feed(norm("feed_forward_norm", h)))


def parallel(x, attend, feed, norm):
    return x + attend(norm("norm", x)) + feed(norm("norm", x))


BLOCKS = [
    (TransformerBlock, pre, 2),
    (PostNormBlock, post, 2),
    (BranchNormBlock, branch, 2),
    (SandwichBlock, sandwich, 4),
    (ParallelBlock, parallel, 1),
]


def config(kind):
    feed_forward = DenseFeedForward.Config(hidden_dim=HIDDEN, activation="relu")
    attention = Averaging.default_config()
    return kind.Config(input_dim=DIM, attention=attention, feed_forward=feed_forward)


@pytest.mark.parametrize(("kind", "formula", "_"), BLOCKS)
def test_block_equals_its_formula_in_float64(make, rng, kind, formula, _):
    block, state = make.build(config(kind))
    x = rng.normal(size=(2, 5, DIM))
    y = make.call(block, state, x.astype(np.float32), SequenceInfo())
    np.testing.assert_allclose(y, formula(x, *branches(state)), atol=1e-5)


@pytest.mark.parametrize(("kind", "_", "norms"), BLOCKS)
def test_each_norm_has_its_own_gain(kind, _, norms):
    one = config(kind).instantiate()
    feed_forward = 2 * DIM * HIDDEN + HIDDEN + DIM
    assert parameter_count(one.parameter_specs()) == feed_forward + norms * DIM


@pytest.mark.parametrize("kind", [kind for kind, _, _ in BLOCKS[1:]])
def test_decoding_equals_the_whole_sequence_whatever_the_block(make, kind):
    cfg = make.llama()
    replace(cfg, Block, kind.default_config())
    lm, state = make.build(cfg)
    ids = make.batch(seq=6)["input_ids"]
    prompt, cache = make.call(lm, state, ids[:, :5], lm.init_cache(2, 6), method="extend")
    last, _ = make.call(lm, state, ids[:, 5:], cache, method="extend")
    expected = make.call(lm, state, {"input_ids": ids}, method="logits")
    np.testing.assert_allclose(np.concatenate([prompt, last], axis=1), expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "formula", "_"), BLOCKS)
def test_branch_scale_multiplies_what_each_branch_computes(make, rng, kind, formula, _):
    block, state = make.build(config(kind).set(branch_scale=0.5))
    x = rng.normal(size=(2, 5, DIM))
    attend, feed, norm = branches(state)
    expected = formula(x, lambda x: 0.5 * attend(x), lambda x: 0.5 * feed(x), norm)
    y = make.call(block, state, x.astype(np.float32), SequenceInfo())
    np.testing.assert_allclose(y, expected, atol=1e-5)
