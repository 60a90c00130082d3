"""Functions that run on each device with its own part."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    current_platform,
    device_count,
    dividing_axes,
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


def test_axes_that_divide_a_dimension_are_the_first_of_its_rule() -> None:
    with placing(Placement(make_mesh({"data": 2, "fsdp": 4}), DEFAULT_RULES)):
        assert dividing_axes("batch", 8) == ("data", "fsdp")
        assert dividing_axes("batch", 4) == ("data",)
        assert dividing_axes("batch", 1) == ()
        assert dividing_axes("batch", 8, taken=["data"]) == ("fsdp",)
        assert dividing_axes("heads", 8) == ()
        assert device_count(("data", "fsdp")) == 8


def test_inside_another_split_the_other_axes_are_split() -> None:
    placement = Placement(make_mesh({"pipeline": 2, "data": 2, "model": 2}), DEFAULT_RULES)
    seen = []

    def double(x: jax.Array) -> jax.Array:
        seen.append((x.shape, dividing_axes("batch", 8), dividing_axes("heads", 8)))
        return 2 * x

    def stage(x: jax.Array) -> jax.Array:
        seen.append((x.shape, dividing_axes("batch", 4), dividing_axes("heads", 4)))
        return per_device(double, [(None, "batch", "heads")], (None, "batch", "heads"))(x)

    x = jnp.arange(32.0).reshape(2, 4, 4)
    stages = jax.sharding.PartitionSpec("pipeline")
    with placing(placement):
        result = jax.jit(
            jax.shard_map(
                stage,
                mesh=placement.mesh,
                in_specs=stages,
                out_specs=stages,
                axis_names={"pipeline"},
                check_vma=False,
            )
        )(x)
    np.testing.assert_array_equal(result, 2 * x)
    assert seen == [((1, 4, 4), ("data",), ("model",)), ((1, 2, 2), (), ())]
