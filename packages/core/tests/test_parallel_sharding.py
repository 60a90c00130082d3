"""Logical axes on the mesh: placed by rules, checked before compiling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, ones
from axlearn_core.parallel import (
    DEFAULT_RULES,
    MESH_AXES,
    Placement,
    check_rules,
    constrain,
    constrain_gradient,
    constrain_weight,
    device_count,
    dividing_axes,
    make_mesh,
    parameter_shardings,
    partition_spec,
    placing,
)

MESH = make_mesh({"data": 2, "fsdp": 2, "model": 2})


def weight(*shape, axes=("embed", "mlp")):
    return ParameterSpec(shape, axes, ones)


# Rules.


def test_default_rules_name_mesh_axes_only():
    check_rules(DEFAULT_RULES)


def test_a_rule_that_names_no_mesh_axis_offers_a_near_name():
    with pytest.raises(ConfigError, match=r"rule 'mlp': 'modal' names no mesh axis\. Did you mean"):
        check_rules({"mlp": "modal"})


def test_a_rule_with_several_axes_is_checked_too():
    with pytest.raises(ConfigError, match="names no mesh axis"):
        check_rules({"batch": ("data", "fdsp")})


# Partition specs.


def test_each_dimension_follows_the_rule_of_its_name():
    assert partition_spec(("embed", "mlp"), DEFAULT_RULES) == PartitionSpec("fsdp", "model")


def test_a_dimension_without_name_or_rule_is_not_split():
    assert partition_spec((None, "head_dim", "mlp"), DEFAULT_RULES) == PartitionSpec(
        None, None, "model"
    )


def test_a_name_can_be_split_over_several_mesh_axes():
    assert partition_spec(("batch",), DEFAULT_RULES) == PartitionSpec(("data", "expert", "fsdp"))


def test_a_mesh_axis_serves_the_first_dimension_that_wants_it():
    assert partition_spec(("vocab", "mlp"), DEFAULT_RULES) == PartitionSpec("model", None)


def test_a_name_keeps_those_of_its_mesh_axes_that_are_free():
    assert partition_spec(("embed", "batch"), DEFAULT_RULES) == PartitionSpec(
        "fsdp", ("data", "expert")
    )


mesh_axes = st.lists(st.sampled_from(MESH_AXES), max_size=3, unique=True).map(tuple)
rules = st.dictionaries(st.sampled_from("abcd"), st.none() | st.sampled_from(MESH_AXES) | mesh_axes)


@given(st.lists(st.sampled_from("abcd") | st.none(), max_size=4), rules)
def test_no_mesh_axis_is_used_twice_in_one_array(axes, rules):
    parts = partition_spec(axes, rules)
    used = itertools.chain(*((p,) if isinstance(p, str) else p or () for p in parts))
    assert len(parts) == len(axes)
    assert len(used := list(used)) == len(set(used))


# Parameters.


def test_shardings_have_the_tree_of_the_parameters():
    shardings = parameter_shardings({"ff": {"up": weight(4, 8)}}, MESH, DEFAULT_RULES)
    assert shardings == {"ff": {"up": NamedSharding(MESH, PartitionSpec("fsdp", "model"))}}


def test_initialised_parameters_can_be_created_in_their_places():
    shardings = parameter_shardings({"w": weight(4, 8)}, MESH, DEFAULT_RULES)
    create = jax.jit(lambda: {"w": jnp.ones((4, 8))}, out_shardings=shardings)
    assert create()["w"].addressable_shards[0].data.shape == (2, 4)


def test_all_indivisible_dimensions_are_listed_at_once():
    specs = {"ff": {"up": weight(4, 7)}, "head": weight(3, 8), "fine": weight(4, 8)}
    with pytest.raises(ConfigError) as error:
        parameter_shardings(specs, MESH, DEFAULT_RULES)
    assert str(error.value).splitlines()[1:-1] == [
        "  ff/up: axis 'mlp' of size 7 over model (=2), shape (4, 7)",
        "  head: axis 'embed' of size 3 over fsdp (=2), shape (3, 8)",
    ]


def test_sizes_of_several_mesh_axes_multiply():
    specs = {"w": weight(6, axes=("batch",))}
    with pytest.raises(ConfigError, match=r"size 6 over data x expert x fsdp \(=4\)"):
        parameter_shardings(specs, MESH, DEFAULT_RULES)


# Activations.


def test_constrain_is_nothing_outside_of_placing():
    x = jnp.ones((4, 8))
    assert constrain(x, "batch", "mlp") is x


def test_constrain_is_nothing_on_a_single_device():
    x = jnp.ones((4, 8))
    with placing(Placement(make_mesh({}), DEFAULT_RULES)):
        assert constrain(x, "batch", "mlp") is x


def test_constrain_places_an_activation():
    with placing(Placement(MESH, DEFAULT_RULES)):
        x = jax.jit(lambda x: constrain(x, "batch", "mlp"))(jnp.ones((4, 8)))
    assert x.sharding.is_equivalent_to(
        NamedSharding(MESH, PartitionSpec(("data", "fsdp"), "model")), 2
    )


def test_constrain_changes_no_number():
    x = jax.random.normal(jax.random.key(0), (4, 8))
    with placing(Placement(MESH, DEFAULT_RULES)):
        np.testing.assert_array_equal(jax.jit(lambda x: constrain(x, "batch", "mlp"))(x), x)


def test_a_mesh_axis_that_does_not_divide_splits_nothing():
    with placing(Placement(MESH, DEFAULT_RULES)):
        x = jax.jit(lambda x: constrain(x, "batch", "residual_seq"))(jnp.ones((2, 1)))
    assert x.sharding.is_equivalent_to(NamedSharding(MESH, PartitionSpec("data")), 2)


def test_the_first_axes_that_divide_share_a_dimension():
    assert dividing_axes("batch", 8) == ()
    with placing(Placement(MESH, DEFAULT_RULES)):
        shared = [dividing_axes("batch", size) for size in (8, 2, 3)]
        assert shared == [("data", "fsdp"), ("data",), ()]
        assert list(map(device_count, shared)) == [4, 2, 1]


def test_a_weight_is_gathered_where_the_batch_is_split_and_its_gradient_is_not():
    seen = []

    def product(weight):
        weight = constrain_weight(weight, "embed", "mlp")
        jax.debug.inspect_array_sharding(weight, callback=seen.append)
        return jnp.sum(weight**2)

    with placing(Placement(MESH, DEFAULT_RULES)):
        gradient = jax.jit(jax.grad(product))(jnp.ones((4, 8)))
    gathered = NamedSharding(MESH, PartitionSpec(None, "model"))
    assert seen and all(sharding.is_equivalent_to(gathered, 2) for sharding in seen)
    assert gradient.sharding.is_equivalent_to(
        NamedSharding(MESH, PartitionSpec("fsdp", "model")), 2
    )
    np.testing.assert_array_equal(gradient, 2 * np.ones((4, 8)))


def test_a_gradient_is_placed_by_itself():
    def identity(x):
        return jnp.sum(constrain_gradient(x, "batch", "mlp"))

    with placing(Placement(MESH, DEFAULT_RULES)):
        gradient = jax.jit(jax.grad(identity))(jnp.ones((4, 8)))
    placed = NamedSharding(MESH, PartitionSpec(("data", "fsdp"), "model"))
    assert gradient.sharding.is_equivalent_to(placed, 2)


def test_placing_ends_with_its_block():
    x = jnp.ones((4, 8))
    with placing(Placement(MESH, DEFAULT_RULES)):
        pass
    assert constrain(x, "batch", "mlp") is x


def test_a_placement_names_the_sharding_of_a_batch():
    placement = Placement(MESH, DEFAULT_RULES)
    assert placement.sharding("batch", None).spec == PartitionSpec(("data", "expert", "fsdp"), None)


def test_a_mesh_without_devices_is_for_any_platform() -> None:
    mesh = AbstractMesh((4,), ("data",))
    assert Placement(mesh, DEFAULT_RULES).platform == "any"
