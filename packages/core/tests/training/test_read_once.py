"""Replicas read a share of an array each, and give each other the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from axlearn_core.checkpoint.read_once import gathered, spread


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))


def like(mesh, shape, *spec, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def read(struct):
    return {index for index in map(str, struct.sharding.devices_indices_map(struct.shape).values())}


def test_every_device_reads_another_part_of_what_is_replicated(mesh):
    assert len(read(spread(like(mesh, (1024, 512), None, "model")))) == 8
    assert len(read(spread(like(mesh, (1024, 512))))) == 8


def test_a_dimension_that_cannot_be_split_further_is_left(mesh):
    before = like(mesh, (3, 200_002), None, "model")
    assert spread(before) == before


def test_what_is_small_stays(mesh):
    before = like(mesh, (64,))
    assert spread(before) is before


def test_bits_and_shardings_are_those_that_are_wanted(mesh):
    wanted = like(mesh, (1024, 512), None, "model")
    value = np.random.default_rng(0).integers(2**32, size=wanted.shape, dtype=np.uint32)
    bits = value.view(np.float32)  # among them NaNs with payloads, and negative zeros
    whole = gathered(jax.device_put(bits, spread(wanted).sharding), wanted)
    assert whole.sharding == wanted.sharding
    assert np.asarray(whole).tobytes() == bits.tobytes()
