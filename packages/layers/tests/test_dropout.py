import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError, apply_overrides
from axlearn_core.module import functional
from axlearn_layers import (
    Dropout,
    FeedForward,
    LayerDrop,
    Remat,
    SequenceInfo,
    SequenceLayer,
    TransformerBlock,
)


def train(module, state, *inputs, seed=0):
    @jax.jit
    def run(state, inputs, key):
        return functional(module, state=state, prng_key=key, inputs=inputs, is_training=True)[0]

    return run(state, inputs, jax.random.key(seed))


def dropping(make, **fields):
    cfg = make.llama()
    cfg.stack.set(**fields)
    return apply_overrides(cfg, ["**.dropout.rate=0.3"])


def test_dropout_zeroes_at_its_rate_and_keeps_the_mean():
    y = train(Dropout.Config(rate=0.25).instantiate(), {}, np.ones((100, 100), np.float32))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    share = (np.asarray(y) == 0).mean()
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 10_000)  # five standard deviations


def test_dropout_keeps_the_dtype():
    x = jax.numpy.ones((4, 4), "bfloat16")
    assert train(Dropout.Config(rate=0.5).instantiate(), {}, x).dtype == x.dtype


def test_evaluation_needs_no_key_and_drops_nothing(make):
    lm, state = make.build(dropping(make))
    plain, batch = make.llama().instantiate(), make.batch()
    assert make.call(lm, state, batch).total == make.call(plain, state, batch).total


def test_training_without_dropout_needs_no_key(make):
    lm, state = make.build(make.llama())
    batch = make.batch()
    loss, _ = functional(lm, state=state, prng_key=None, inputs=(batch,), is_training=True)
    np.testing.assert_allclose(loss.total, make.call(lm, state, batch).total, rtol=1e-6)


def test_training_draws_anew_with_another_key_only(make):
    lm, state = make.build(dropping(make))
    first, again, other = (train(lm, state, make.batch(), seed=s).total for s in (0, 0, 1))
    assert first == again != other


def test_remat_draws_the_same_numbers_again(make):
    def gradients(remat):
        lm, state = make.build(dropping(make, remat=remat))
        return jax.grad(lambda state: train(lm, state, make.batch()).total)(state)

    plain, again = gradients(None), gradients(Remat.default_config())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), plain, again)


def test_both_branches_of_a_block_draw_their_own_numbers():
    cfg = TransformerBlock.Config(input_dim=16, attention=Constant.default_config())
    cfg.feed_forward = ConstantFeedForward.Config(hidden_dim=1)
    cfg.dropout.rate = 0.5
    block = cfg.instantiate()
    state = block.initialize(jax.random.key(0))
    y = train(block, state, np.zeros((1, 8, 16), np.float32), SequenceInfo())
    assert set(np.unique(y)) == {0.0, 2.0, 4.0}  # 1 / 0.5, from none, one or both


class Constant(SequenceLayer):
    class Config(SequenceLayer.Config):
        pass

    def forward(self, x, info):
        return 0 * x + 1


class ConstantFeedForward(FeedForward):
    class Config(FeedForward.Config):
        pass

    def forward(self, x):
        return 0 * x + 1


def test_layer_drop_gives_the_layer_or_nothing():
    layer = LayerDrop.Config(input_dim=4, inner=Constant.default_config(), rate=0.5).instantiate()
    x = np.full((2, 3, 4), 7, np.float32)
    outcomes = [np.unique(train(layer, {}, x, SequenceInfo(), seed=seed)) for seed in range(12)]
    assert {tuple(values) for values in outcomes} == {(1.0,), (7.0,)}


def test_layer_drop_changes_nothing_at_evaluation_and_decodes(make):
    cfg = make.llama()
    plain = cfg.clone().instantiate()
    cfg.stack.layer = LayerDrop.Config(inner=cfg.stack.layer, rate=0.9)
    lm, state = make.build(cfg)
    inner = {**state, "stack": {"layer": state["stack"]["layer"]["inner"]}}
    ids = make.batch(seq=6)["input_ids"]
    expected = make.call(plain, inner, {"input_ids": ids}, method="logits")
    np.testing.assert_array_equal(
        make.call(lm, state, {"input_ids": ids}, method="logits"), expected
    )
    logits, _ = make.call(lm, state, ids, lm.init_cache(2, 6), method="extend")
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("config", [Dropout.Config(rate=1.0), LayerDrop.Config(rate=1.0)])
def test_a_rate_that_keeps_nothing_is_refused(config):
    with pytest.raises(BuildError, match=r"rate \(=1.0\) must be at least 0 and below 1"):
        (config.set(input_dim=4) if isinstance(config, LayerDrop.Config) else config).instantiate()
