"""The ops norm and cross entropy: what a device computes, and kernels that only it can."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.kernels import (
    CrossEntropyInputs,
    LossSums,
    NormInputs,
    cross_entropy,
    norm,
    recording_choices,
)
from axlearn_core.kernels.cross_entropy_plain import ReferenceCrossEntropy
from axlearn_core.kernels.norm_plain import ReferenceNorm
from axlearn_core.parallel import DEFAULT_RULES, Placement, device_shape, make_mesh, placing
from axlearn_core.plugins import KernelRecord
from axlearn_core.testing.devices import eight_devices
from axlearn_core.testing.registries import isolated_registry

RECORDS = [
    KernelRecord("norm.opaque", f"{__name__}:OpaqueNorm", "Per device.", op="norm"),
    KernelRecord(
        "cross_entropy.opaque", f"{__name__}:OpaqueLoss", "Per device.", op="cross_entropy"
    ),
]


class OpaqueNorm(ReferenceNorm):
    opaque = True

    def __call__(self, spec, inputs: NormInputs):
        assert spec.vectors == inputs.x[..., 0].size
        return super().__call__(spec, inputs)


class OpaqueLoss(ReferenceCrossEntropy):
    opaque = True

    def __call__(self, spec, inputs: CrossEntropyInputs) -> LossSums:
        assert (spec.batch, spec.length) == inputs.weights.shape
        return super().__call__(spec, inputs)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_norms_are_what_numpy_computes(rng, kind):
    x, scale, bias = (rng.normal(size=size) for size in ((3, 5, 8), 8, 8))
    centred = x - x.mean(-1, keepdims=True) if kind == "layer" else x
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.1) * scale + bias
    for name in ("reference", "recomputed"):
        y = norm(*map(jnp.float32, (x, scale, bias)), kind=kind, eps=0.1, implementation=name)
        np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-6)


def test_a_scale_of_another_shape_is_explained():
    with pytest.raises(UserError, match=r"scale \(3,\) must be the last dimension of x \(2, 4\)"):
        norm(jnp.ones((2, 4)), jnp.ones(3), kind="rms", eps=1e-6)


def test_the_parts_of_devices_are_rounded_up():
    eight_devices()
    with placing(Placement(make_mesh({"data": 2, "fsdp": 2, "model": 2}), DEFAULT_RULES)):
        assert device_shape((8, 6, 10), ("batch", "seq", "mlp")) == (2, 6, 5)
        assert device_shape((6, 3), ("batch", None)) == (2, 3)
    assert device_shape((8, 6), ("batch", "seq")) == (8, 6)


def on_devices(function, *arrays):
    """Values and gradients of a sum, compiled for data and sequence parallelism."""
    eight_devices()
    with placing(Placement(make_mesh({"data": 4, "seq": 2}), DEFAULT_RULES)):
        return jax.jit(jax.value_and_grad(function, argnums=(0, 1)))(*arrays)


def test_an_opaque_norm_gets_the_part_of_each_device(rng):
    x, scale = jnp.float32(rng.normal(size=(8, 4, 6))), jnp.float32(rng.normal(size=6))

    def total(x, scale, implementation="opaque"):
        return (norm(x, scale, kind="rms", eps=1e-6, implementation=implementation) ** 3).sum()

    with isolated_registry(*RECORDS):
        value, gradients = on_devices(total, x, scale)
    expected = jax.value_and_grad(lambda *a: total(*a, "reference"), argnums=(0, 1))(x, scale)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    for got, want in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_an_opaque_loss_adds_up_the_parts_of_the_devices(rng):
    hidden, table = (jnp.float32(rng.normal(size=size)) for size in ((8, 4, 6), (11, 6)))
    targets, weights = rng.integers(0, 11, (8, 4)), jnp.float32(rng.uniform(size=(8, 4)))

    def total(hidden, table, implementation="opaque"):
        return cross_entropy(hidden, table, targets, weights, implementation=implementation).total

    with isolated_registry(*RECORDS):
        value, gradients = on_devices(total, hidden, table)
    expected = jax.value_and_grad(lambda *a: total(*a, "reference"), argnums=(0, 1))(hidden, table)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    for got, want in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_specs_are_of_one_device():
    eight_devices()
    x, table, ids = jnp.ones((8, 4, 6)), jnp.ones((11, 6)), jnp.zeros((8, 4), int)
    placement = Placement(make_mesh({"data": 4, "seq": 2}), DEFAULT_RULES)
    with placing(placement), recording_choices() as choices:
        jax.eval_shape(lambda x: norm(x, x[0, 0], kind="rms", eps=1e-6), x)
        jax.eval_shape(lambda x: cross_entropy(x, table, ids, x[..., 0]), x)
    assert [str(choice.spec) for choice in choices] == [
        "norm(rms, 4 vectors of 6, float32, cpu)",
        "cross_entropy(batch 2, 2 tokens, 6 to 11, float32, cpu)",
    ]
