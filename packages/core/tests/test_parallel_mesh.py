"""Mesh shapes: completed, or refused with a reason."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axlearn_core.config import ConfigError
from axlearn_core.parallel import MESH_AXES, infer_mesh_shape, make_mesh, network_domains

sizes = st.dictionaries(st.sampled_from(MESH_AXES), st.integers(1, 6))


@given(sizes, st.sampled_from(MESH_AXES), st.integers(1, 8))
def test_the_inferred_axis_takes_all_devices_that_are_left(shape, open_axis, left):
    known = math.prod(size for axis, size in shape.items() if axis != open_axis)
    full = infer_mesh_shape(shape | {open_axis: -1}, known * left)
    assert full[open_axis] == left
    assert math.prod(full.values()) == known * left


@given(sizes, st.integers(0, 5))
def test_given_sizes_stay_and_missing_axes_have_size_one(shape, spare):
    full = infer_mesh_shape(shape, math.prod(shape.values()) + spare)
    assert full == {axis: shape.get(axis, 1) for axis in MESH_AXES}


@given(sizes)
def test_axes_come_in_one_order(shape):
    assert tuple(infer_mesh_shape(shape, 6**6)) == MESH_AXES


@given(st.integers(2, 9), st.integers(1, 100))
def test_inference_fails_exactly_where_the_known_axes_do_not_divide(known, devices):
    shape = {"model": known, "data": -1}
    if devices % known:
        with pytest.raises(ConfigError, match=f"{known} does not divide the {devices} devices"):
            infer_mesh_shape(shape, devices)
    else:
        assert infer_mesh_shape(shape, devices)["data"] == devices // known


def test_an_unknown_axis_offers_a_near_name():
    with pytest.raises(ConfigError, match=r"no axis 'modle'\. Did you mean 'model'"):
        infer_mesh_shape({"modle": 2}, 8)


@pytest.mark.parametrize("size", [0, -2])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(ConfigError, match=rf"mesh_shape\.data must be positive .* got {size}"):
        infer_mesh_shape({"data": size}, 8)


def test_two_inferred_axes_are_refused():
    with pytest.raises(ConfigError, match=r"only one mesh axis can be -1 .* data, model"):
        infer_mesh_shape({"data": -1, "model": -1}, 8)


def test_more_than_the_devices_is_refused_with_a_way_out():
    with pytest.raises(ConfigError, match=r"needs 16 devices, and there are 8.*write -1"):
        infer_mesh_shape({"data": 16}, 8)


def test_a_mesh_has_all_axes():
    assert dict(make_mesh({"data": 2, "model": -1}).shape) == {
        **dict.fromkeys(MESH_AXES, 1),
        "data": 2,
        "model": len(jax.devices()) // 2,
    }


def test_a_mesh_smaller_than_the_machine_takes_the_first_devices():
    assert make_mesh({"model": 2}).devices.ravel().tolist() == jax.devices()[:2]


def test_a_mesh_can_be_made_of_given_devices():
    chosen = jax.devices()[4:]
    np.testing.assert_array_equal(make_mesh({"data": -1}, chosen).devices.ravel(), chosen)


# Hybrid meshes. One process's virtual devices stand for domains in consecutive blocks.


def test_a_slow_axis_runs_over_the_domains():
    mesh = make_mesh({"fsdp": -1}, slow={"data": 2})
    assert {axis: size for axis, size in mesh.shape.items() if size > 1} == {"data": 2, "fsdp": 4}
    rows = mesh.devices.reshape(2, 4).tolist()
    assert rows == [jax.devices()[:4], jax.devices()[4:]]


def test_an_axis_that_is_slow_and_fast_has_the_product_of_both_and_is_slow_outside():
    mesh = make_mesh({"fsdp": 2, "model": 2}, slow={"fsdp": 2})
    assert {axis: size for axis, size in mesh.shape.items() if size > 1} == {"fsdp": 4, "model": 2}
    assert mesh.devices.reshape(4, 2).tolist() == np.array(jax.devices()).reshape(4, 2).tolist()


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh needs of a device, on several hosts."""

    id: int
    process_index: int
    platform: str = "gpu"
    device_kind: str = "Acme"


def test_gpus_that_know_no_more_are_grouped_by_process():
    chips = [Chip(i, process_index=1 - i // 2) for i in range(4)]
    assert [[c.id for c in domain] for domain in network_domains(chips)] == [[2, 3], [0, 1]]


def test_the_number_of_domains_can_be_inferred():
    chips = [Chip(i, process_index=i // 2) for i in range(8)]
    mesh = make_mesh({"fsdp": -1}, chips, slow={"data": -1})
    assert [[c.id for c in row] for row in mesh.devices.reshape(4, 2)] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]


def test_too_few_slow_parts_are_refused():
    chips = [Chip(i, process_index=i // 2) for i in range(8)]
    with pytest.raises(ConfigError, match=r"spans 2 network domains .* there are 4; write -1"):
        make_mesh({"fsdp": -1}, chips, slow={"data": 2})


def test_more_slow_parts_than_domains_are_refused():
    chips = [Chip(i, process_index=i // 4) for i in range(8)]
    with pytest.raises(ConfigError, match=r"slow_mesh_shape .* needs 4 network domains.* are 2"):
        make_mesh({"fsdp": -1}, chips, slow={"data": 4})


def test_domains_of_different_sizes_are_refused():
    chips = [Chip(i, process_index=i // 3) for i in range(8)]
    with pytest.raises(ConfigError, match="of one size, and there are 3, 3, 2 devices in them"):
        make_mesh({"fsdp": -1}, chips, slow={"data": -1})


def test_the_fast_part_must_fit_a_domain():
    with pytest.raises(ConfigError, match="needs 8 devices of each of 2 network domains, .* are 4"):
        make_mesh({"fsdp": 8}, slow={"data": 2})


def test_an_unknown_slow_axis_is_named():
    with pytest.raises(ConfigError, match="slow_mesh_shape has no axis 'dcn'"):
        make_mesh({"fsdp": -1}, slow={"dcn": 2})
