"""Checksums see every flipped bit, and do not depend on how an array is computed or placed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from axlearn_core.guards.checksums import checksum, checksums_by_device
from axlearn_core.parallel import make_mesh
from axlearn_core.testing.faults import flip_bit

DTYPES = ["float32", "bfloat16", "float16", "int8", "uint32", "bool", "float8_e4m3fn"]


def mixed(words):
    """The formula of `checksum`, in Python's integers."""
    mask = 2**32 - 1

    def mix(x):
        x = (x ^ (x >> 16)) * 0x85EBCA6B & mask
        x = (x ^ (x >> 13)) * 0xC2B2AE35 & mask
        return x ^ (x >> 16)

    return sum(mix(word ^ mix(i * 0x9E3779B9 & mask)) for i, word in enumerate(words)) & mask


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_equals_the_formula_in_integers(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7)) * 9).astype(dtype)
    size = x.dtype.itemsize
    words = np.frombuffer(np.asarray(x).tobytes(), f"<u{size}").tolist()
    assert int(checksum(x)) == mixed(words)


def test_every_single_bit_that_flips_changes_it():
    words = np.random.default_rng(0).integers(2**32, size=6, dtype=np.uint32)
    flipped = [
        words ^ (np.uint32(1) << np.uint32(b)) * (np.arange(6) == i).astype(np.uint32)
        for i in range(6)
        for b in range(32)
    ]
    sums = jax.vmap(checksum)(jnp.stack([words, *flipped]))
    assert (sums[1:] != sums[0]).all()


@pytest.mark.parametrize("change", [lambda x: x[::-1], lambda x: np.roll(x, 1)])
def test_it_depends_on_the_order(change):
    x = np.arange(12, dtype=np.float32)
    assert int(checksum(jnp.asarray(x))) != int(checksum(jnp.asarray(change(x))))


def test_positive_and_negative_zero_are_different_bits():
    assert int(checksum(jnp.zeros(3))) != int(checksum(-jnp.zeros(3)))


def test_each_device_sums_up_what_it_holds():
    mesh = make_mesh({"data": 2, "fsdp": 4})
    x = jnp.arange(32.0).reshape(8, 4)
    whole = jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("fsdp")))
    sums = np.asarray(checksums_by_device({"a": whole, "b": split}, mesh)({"a": whole, "b": split}))
    assert sums.shape == (8, 2)
    assert (sums[:, 0] == int(checksum(x))).all()
    for row in range(8):
        assert sums[row, 1] == int(checksum(x[2 * (row % 4) : 2 * (row % 4) + 2]))


def test_a_bit_that_flips_on_one_device_is_seen_there_alone():
    mesh = make_mesh({"data": 8})
    x = jax.device_put(jnp.arange(32.0), NamedSharding(mesh, PartitionSpec()))
    sums_of = checksums_by_device([x], mesh)
    before, after = (np.asarray(sums_of([y]))[:, 0] for y in (x, flip_bit(x, device=5)))
    assert np.flatnonzero(before != after).tolist() == [5]
