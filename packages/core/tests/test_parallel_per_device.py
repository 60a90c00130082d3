"""Functions that run on each device with its own part."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    current_platform,
    make_mesh,
    per_device,
    placing,
)


def test_each_device_sees_its_part() -> None:
    seen = []

    def double(x: jax.Array) -> jax.Array:
        seen.append(x.shape)
        return 2 * x

    x = jnp.arange(32.0).reshape(8, 4)
    with placing(Placement(make_mesh({"data": 4, "model": 2}), DEFAULT_RULES)):
        axes = ("batch", "heads")
        result = jax.jit(lambda x: per_device(double, [axes], axes)(x))(x)
    np.testing.assert_array_equal(result, 2 * x)
    assert seen == [(2, 2)]


def test_several_results_have_axes_each() -> None:
    def both(x: jax.Array, nothing: None) -> tuple[jax.Array, jax.Array]:
        return x, jax.lax.psum(x.sum(), ("data", "expert", "fsdp"))

    x = jnp.arange(8.0)
    with placing(Placement(make_mesh({"data": 8}), DEFAULT_RULES)):
        same, total = per_device(both, [("batch",), None], [("batch",), ()])(x, None)
    np.testing.assert_array_equal(same, x)
    assert total == 28


def test_outside_a_placement_it_is_the_function_itself() -> None:
    assert per_device(jnp.sin, [("batch",)], ("batch",)) is jnp.sin


def test_a_placement_says_what_is_traced_for() -> None:
    with placing(Placement(make_mesh({"data": 8}), DEFAULT_RULES)):
        assert current_platform() == "cpu"
