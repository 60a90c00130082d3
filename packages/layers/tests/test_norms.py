import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_layers import GroupNorm, LayerNorm, RMSNorm


def rms_norm(x, state, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * np.asarray(state["scale"], float)


def layer_norm(x, state, eps):
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return normal * np.asarray(state["scale"], float) + np.asarray(state["bias"], float)


def zero_centred(x, state, eps):
    return rms_norm(x, {"scale": 1 + np.asarray(state["scale"], float)}, eps)


def group_norm(x, state, eps):
    """Four groups, one after the other."""
    size = x.shape[-1] // 4
    parts = [slice(start, start + size) for start in range(0, x.shape[-1], size)]
    states = [{name: value[part] for name, value in state.items()} for part in parts]
    normed = [layer_norm(x[..., p], s, eps) for p, s in zip(parts, states, strict=True)]
    return np.concatenate(normed, axis=-1)


NORMS = [
    (RMSNorm.default_config(), rms_norm),
    (RMSNorm.Config(zero_centred=True), zero_centred),
    (LayerNorm.default_config(), layer_norm),
    (GroupNorm.Config(num_groups=4), group_norm),
]


@pytest.mark.parametrize(("config", "formula"), NORMS)
def test_norm_equals_float64_formula(make, rng, config, formula):
    layer, state = make.build(config.clone(input_dim=8, eps=0.1))
    x = 3 * rng.normal(size=(2, 5, 8)) + 1
    y = make.call(layer, state, x.astype(np.float32))
    np.testing.assert_allclose(y, formula(x, state, 0.1), atol=2e-6)


@pytest.mark.parametrize(("config", "formula"), NORMS)
def test_norm_keeps_only_its_input_for_the_backward_pass(make, config, formula):
    layer, state = make.build(config.clone(input_dim=8))
    x = jnp.ones((2, 5, 8))
    _, pullback = jax.vjp(lambda x, state: make.call(layer, state, x), x, state)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pullback))
    assert kept <= x.size + 2 * 8


@pytest.mark.parametrize(("config", "formula"), NORMS)
def test_norm_takes_statistics_in_float32(make, config, formula):
    layer, state = make.build(config.clone(input_dim=512))
    x = jax.random.normal(jax.random.key(0), (4, 512), jnp.bfloat16)
    y = make.call(layer, state, x)
    assert y.dtype == jnp.bfloat16
    # One rounding to bfloat16 (8 bits) at the end, and none before.
    expected = formula(np.asarray(x, float), state, layer.config.eps)
    np.testing.assert_allclose(np.asarray(y, float), expected, rtol=2**-8, atol=1e-6)


def test_a_zero_centred_gain_starts_as_the_identity():
    cfg = RMSNorm.Config(input_dim=8, zero_centred=True)
    np.testing.assert_array_equal(cfg.instantiate().initialize(jax.random.key(0))["scale"], 0)


def test_groups_that_do_not_divide_are_refused_when_built():
    with pytest.raises(BuildError, match=r"num_groups \(=3\) must divide input_dim \(=8\)"):
        GroupNorm.Config(input_dim=8, num_groups=3).instantiate()
