"""Mesh shapes: completed, or refused with a reason."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axlearn_core.config import ConfigError
from axlearn_core.parallel import MESH_AXES, infer_mesh_shape, make_mesh

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
