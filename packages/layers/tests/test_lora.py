"""LoRA: the formula, what is frozen, and merging."""

import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError, replace
from axlearn_core.module import flatten_paths, functional
from axlearn_core.training.state import merge_trees, split_trainable
from axlearn_layers import Linear, LoRA, Projection, merge_adapters, unmerge_adapters


def adapted(cfg, **fields):
    """Puts an adapter around every projection of a model."""
    replace(cfg, Projection, lambda old: LoRA.default_config().set(inner=old, rank=2, **fields))
    return cfg


def test_equals_the_formula_over_several_dimensions(make, rng):
    inner = Linear.default_config().set(bias=True)
    layer, state = make.build(
        LoRA.Config(
            inner=inner,
            input_dim=(2, 3),
            output_dim=(4, 5),
            input_axes=("heads", None),
            output_axes=(None, "mlp"),
            rank=2,
            alpha=8.0,
        )
    )
    x = rng.normal(size=(7, 2, 3))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    expected = np.tensordot(x, p["inner"]["weight"], 2) + p["inner"]["bias"]
    expected += 4 * np.tensordot(np.tensordot(x, p["a"], 2), p["b"], 1)
    np.testing.assert_allclose(make.call(layer, state, x.astype(np.float32)), expected, atol=1e-5)


def test_adapters_change_nothing_at_first(make, rng):
    layer = LoRA.Config(inner=Linear.default_config(), input_dim=4, output_dim=6).instantiate()
    state = layer.initialize(jax.random.key(0))
    x = rng.normal(size=(3, 4)).astype(np.float32)
    assert np.abs(state["a"]).min() > 0
    np.testing.assert_allclose(make.call(layer, state, x), x @ state["inner"]["weight"], atol=1e-6)


def test_only_what_is_wrapped_is_frozen(make):
    specs = flatten_paths(adapted(make.llama()).instantiate().parameter_specs())
    frozen = {path for path, spec in specs.items() if not spec.trainable}
    assert frozen == {path for path in specs if "/inner/" in path and path.endswith("weight")}
    assert "stack/layer/feed_forward/gate_up/inner/weight" in frozen
    assert specs["stack/layer/feed_forward/gate_up/a"].axes == ("layers", "embed", None)
    assert specs["stack/layer/feed_forward/gate_up/b"].axes == ("layers", None, None, "mlp")


def test_adapters_have_gradients_and_the_frozen_weights_none(make):
    lm, state = make.build(adapted(make.llama()))
    params, frozen = split_trainable(state, lm.parameter_specs())

    @jax.jit
    def gradient(params, frozen, batch):
        def loss(params):
            state = merge_trees(params, frozen)
            return functional(lm, state=state, prng_key=None, inputs=(batch,))[0].total

        return jax.grad(loss)(params)

    down = gradient(params, frozen, make.batch())["stack"]["layer"]["feed_forward"]["down"]
    assert sorted(down) == ["a", "b"]
    assert all(np.abs(leaf).max() > 0 for leaf in down.values())


def test_a_merged_model_computes_the_same_without_adapters(make):
    lm, state = make.build(adapted(make.llama(), alpha=3.0))
    base, batch = make.llama().instantiate(), make.batch()
    merged = merge_adapters(lm, state)
    shapes = jax.tree.map(lambda spec: spec.shape, base.parameter_specs())
    assert jax.tree.map(np.shape, merged) == flatten_like(shapes, merged)
    expected = make.call(lm, state, batch, method="logits")
    logits = make.call(base, merged, batch, method="logits")
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def flatten_like(shapes, tree):
    """Shapes are tuples, and so trees themselves; this keeps them whole."""
    return {
        name: flatten_like(shapes[name], value) if isinstance(value, dict) else shapes[name]
        for name, value in tree.items()
    }


def test_unmerging_gives_back_what_was_merged(make):
    lm, state = make.build(adapted(adapted(make.llama())))  # an adapter around an adapter
    merged = merge_adapters(lm, state)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        unmerge_adapters(lm, merged, state),
        state,
    )


def test_a_rank_below_1_is_refused_when_built():
    cfg = LoRA.Config(inner=Linear.default_config(), input_dim=4, output_dim=6, rank=0)
    with pytest.raises(BuildError, match=r"rank \(=0\) must be at least 1"):
        cfg.instantiate()
