"""The formulas of LoRA, DoRA and of several LoRAs in one batch."""

import jax
import numpy as np
import pytest

from axlearn_core.config import REQUIRED, BuildError, replace
from axlearn_core.module import Layer, functional
from axlearn_layers import (
    DoRA,
    Linear,
    LoRA,
    MultiLoRA,
    Projection,
    Remat,
    flops_per_token,
    merge_adapters,
    unmerge_adapters,
)

DIMS = {
    "input_dim": (2, 3),
    "output_dim": (4, 5),
    "input_axes": ("heads", None),
    "output_axes": (None, "mlp"),
}


def build(make, cfg):
    """Builds an adapter, and returns its parameters in float64 too, and flattened to matrices."""
    layer, state = make.build(
        cfg.set(inner=Linear.default_config().set(bias=True), rank=2, alpha=8.0, **DIMS)
    )
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    flat = {
        "w": exact["inner"]["weight"].reshape(6, 20),
        "bias": exact["inner"]["bias"].reshape(20),
        "a": exact["a"].reshape(-1, 6, 2),
        "b": exact["b"].reshape(-1, 2, 20),
    }
    return layer, state, flat


def test_lora_equals_its_formula_over_several_dimensions(make, rng):
    layer, state, p = build(make, LoRA.default_config())
    x = rng.normal(size=(7, 2, 3)).astype(np.float32)
    expected = x.reshape(7, 6) @ (p["w"] + 4 * p["a"][0] @ p["b"][0]) + p["bias"]
    np.testing.assert_allclose(
        make.call(layer, state, x).reshape(7, 20), expected, rtol=1e-5, atol=1e-5
    )


def test_parameters_have_the_axes_of_what_they_are_multiplied_with(make):
    cfg = make.llama()
    replace(cfg, Projection, lambda old: DoRA.default_config().set(inner=old))
    specs = cfg.instantiate().parameter_specs()["stack"]["layer"]["feed_forward"]["gate_up"]
    assert specs["a"].axes == ("layers", "embed", None)
    assert specs["b"].axes == ("layers", None, None, "mlp")
    assert specs["magnitude"].axes == ("layers", None, "mlp")


def test_dora_and_its_gradients_equal_the_papers_formulas(make, rng):
    """Equations 5 and 11 of arXiv:2402.09353, with m = ||W|| (1 + magnitude)."""
    layer, state, p = build(make, DoRA.default_config())
    x = rng.normal(size=(7, 2, 3)).astype(np.float32)
    by_output = rng.normal(size=(7, 4, 5)).astype(np.float32)
    a, b = p["a"][0], p["b"][0]
    base_norm = np.linalg.norm(p["w"], axis=0)
    m = base_norm * (1 + np.float64(state["magnitude"]).reshape(20))
    v = p["w"] + 4 * a @ b
    norm = np.linalg.norm(v, axis=0)
    by_merged = x.reshape(7, 6).T @ np.float64(by_output).reshape(7, 20)
    by_v = by_merged * m / norm  # the norm counts as a constant
    expected = {
        "a": 4 * by_v @ b.T,
        "b": 4 * a.T @ by_v,
        "magnitude": (by_merged * v / norm).sum(axis=0) * base_norm,
    }

    @jax.jit
    def run(own, inner):
        def output(own):
            state = {**own, "inner": inner}
            return functional(layer, state=state, prng_key=None, inputs=(x,))[0]

        y, backward = jax.vjp(output, own)
        return y, backward(by_output)[0]

    y, gradients = run({name: state[name] for name in expected}, state["inner"])
    np.testing.assert_allclose(
        y.reshape(7, 20), x.reshape(7, 6) @ (v * m / norm) + p["bias"], rtol=1e-5, atol=1e-5
    )
    for name, value in expected.items():
        actual = gradients[name].reshape(value.shape)
        np.testing.assert_allclose(actual, value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_an_output_of_zeros_stays_finite_in_dora(make, rng):
    layer, state, _ = build(make, DoRA.default_config())
    state["inner"]["weight"][..., 0] = 0
    state["b"][..., 0] = 0  # as they start, and where a dimension is padded
    x = rng.normal(size=(7, 2, 3)).astype(np.float32)
    y = make.call(layer, state, x)
    np.testing.assert_array_equal(y[..., 0], np.tile(state["inner"]["bias"][:, 0], (7, 1)))
    merged = merge_adapters(layer, state)
    assert np.isfinite(merged["weight"]).all()


def test_a_change_larger_than_the_weight_is_not_unmerged_wrongly_from_dora(make):
    layer, state, p = build(make, DoRA.default_config())
    state["b"][:, 0] *= 100
    back = unmerge_adapters(layer, merge_adapters(layer, state), state)["inner"]["weight"]
    assert np.isnan(back[..., 0, :]).all()
    change = np.linalg.norm(4 * p["a"][0] @ p["b"][0], axis=0).reshape(4, 5)[1:]
    small = change < 0.9 * np.linalg.norm(p["w"], axis=0).reshape(4, 5)[1:]
    assert small.any()
    np.testing.assert_allclose(
        back[..., 1:, :][..., small], state["inner"]["weight"][..., 1:, :][..., small], atol=1e-5
    )


class Providing(Layer):
    """Provides the adapter of each row, as a model does."""

    class Config(Layer.Config):
        inner: Projection.Config = REQUIRED

    def __init__(self, config, **place):
        super().__init__(config, **place)
        self.inner = self.add_child("inner", self.config.inner)

    def forward(self, x, ids):
        with self.provide("adapter_ids", ids):
            return self.inner.forward(x)


def test_each_row_uses_its_own_adapter(make, rng):
    several = MultiLoRA.default_config().set(num_adapters=3)
    _, state, p = build(make, several)
    layer = Providing.default_config().set(inner=several).instantiate()
    x, ids = rng.normal(size=(5, 7, 2, 3)).astype(np.float32), np.array([2, -1, 0, 2, 1])
    y = make.call(layer, {"inner": state}, x, ids)
    for row, index in enumerate(ids):
        change = 4 * p["a"][index] @ p["b"][index] if index >= 0 else 0
        expected = x[row].reshape(7, 6) @ (p["w"] + change) + p["bias"]
        np.testing.assert_allclose(y[row].reshape(7, 20), expected, rtol=1e-5, atol=1e-5)
    beyond = make.call(layer, {"inner": state}, x[:2], np.array([3, 0]))
    assert np.isnan(beyond[0]).all() and np.isfinite(beyond[1]).all()


def several_in(cfg):
    several = MultiLoRA.default_config().set(num_adapters=3, rank=2, alpha=0.5)
    replace(cfg, Projection, lambda old: several.clone(inner=old))
    return cfg


def test_rows_of_a_model_equal_models_with_one_merged_adapter(make):
    cfg = several_in(make.llama())
    cfg.stack.remat = Remat.default_config()
    lm, state = make.build(cfg)
    base, batch = make.llama().instantiate(), make.batch(batch=3)
    batch["adapter_ids"] = np.array([2, 0, 1])
    logits = make.call(lm, state, batch, method="logits")
    for row, index in enumerate(batch["adapter_ids"]):
        merged, alone = merge_adapters(lm, state, index=int(index)), make.batch(batch=3)
        expected = make.call(base, merged, alone, method="logits")
        np.testing.assert_allclose(logits[row], expected[row], atol=1e-5)


def test_rows_decode_with_the_adapter_of_the_whole_sequence(make):
    lm, state = make.build(several_in(make.llama()))
    ids, adapters = make.batch(seq=6)["input_ids"], np.array([2, -1])
    whole = {"input_ids": ids, "adapter_ids": adapters}
    expected = make.call(lm, state, whole, method="logits")
    cache = lm.init_cache(2, 6)
    logits, cache = make.call(lm, state, ids[:, :5], cache, None, adapters, method="extend")
    last, _ = make.call(lm, state, ids[:, 5:], cache, None, adapters, method="extend")
    np.testing.assert_allclose(np.concatenate([logits, last], 1), expected, atol=1e-5)


def test_without_adapter_ids_no_adapter_is_used(make):
    lm, state = make.build(several_in(make.llama()))
    batch = make.batch()
    none = make.call(lm, state, batch, method="logits")
    minus = make.call(lm, state, batch | {"adapter_ids": np.array([-1, -1])}, method="logits")
    np.testing.assert_array_equal(none, minus)


def test_training_reaches_only_the_adapters_of_the_batch(make):
    lm, state = make.build(several_in(make.llama()))
    batch = make.batch() | {"adapter_ids": np.array([2, -1])}

    @jax.jit
    @jax.grad
    def gradient(state):
        return functional(lm, state=state, prng_key=None, inputs=(batch,))[0].total

    b = gradient(state)["stack"]["layer"]["attention"]["output"]["b"]  # [layers, adapters, ...]
    assert np.abs(b[:, 2]).max() > 0 and np.abs(b[:, :2]).max() == 0


def test_a_token_costs_one_adapter_however_many_there_are():
    cfg = MultiLoRA.Config(inner=Linear.default_config(), input_dim=4, output_dim=6, rank=2)
    for count in (1, 5):
        layer = cfg.clone(num_adapters=count).instantiate()
        assert flops_per_token(layer, 8) == 2 * (4 * 6 + 2 * (4 + 6))


def test_adapter_ids_of_another_batch_are_explained(make):
    lm, state = make.build(several_in(make.llama()))
    batch = make.batch() | {"adapter_ids": np.array([0, 1, 2])}
    with pytest.raises(ValueError, match=r"adapter_ids of shape \(3,\) .* must be \(2,\)"):
        make.call(lm, state, batch)


def test_one_of_several_adapters_must_be_named(make):
    lm, state = make.build(several_in(make.llama()))
    with pytest.raises(ValueError, match=r"from 0 to 2, as in merge_adapters.*got None"):
        merge_adapters(lm, state)
    with pytest.raises(ValueError, match=r"from 0 to 2.*got 3"):
        merge_adapters(lm, state, index=3)


def test_no_adapters_at_all_are_refused_when_built():
    cfg = MultiLoRA.Config(inner=Linear.default_config(), input_dim=4, output_dim=6, num_adapters=0)
    with pytest.raises(BuildError, match=r"num_adapters \(=0\) must be at least 1"):
        cfg.instantiate()
