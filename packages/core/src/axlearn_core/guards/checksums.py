"""Checksums of arrays' bits, computed where the arrays are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

_GOLDEN = 0x9E3779B9  # 2**32 / the golden ratio: places far apart from one another


def checksum(x: jax.Array) -> jax.Array:
    """Returns [] uint32: the sum, modulo 2**32, of every word's bits mixed with its place.

        sum over i of mix(word[i] xor mix(i * golden))

    A sum of integers is the same in any order. The mixing is one to one, so a change of any one
    word always changes the sum; other changes go unseen once in 2**32.
    """
    words = _words(x)
    places = jnp.arange(words.size, dtype=jnp.uint32) * jnp.uint32(_GOLDEN)
    return jnp.sum(_mix(words ^ _mix(places)), dtype=jnp.uint32)


def _words(x: jax.Array) -> jax.Array:
    """Returns the bits as [words] uint32; smaller elements get a word each."""
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32).reshape(-1)


def _mix(x: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3: one to one, and every bit changes half of the others."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def checksums(tree: Any) -> jax.Array:
    """Returns [leaves] uint32, the checksum of each array of a tree."""
    return jnp.stack([checksum(x) for x in jax.tree.leaves(tree)])


def checksums_by_device(tree: Any, mesh: Mesh) -> Any:
    """Returns a compiled function of a tree: [devices, leaves] uint32, of what each device holds.

    Args:
        tree: shapes with shardings over the mesh, as the function will be given.
        mesh: its devices, flattened, are the rows of the result.
    """
    specs = jax.tree.map(lambda x: x.sharding.spec, tree)
    rows = PartitionSpec(mesh.axis_names, None)
    of_each = jax.shard_map(
        lambda held: checksums(held)[None],
        mesh=mesh,
        in_specs=(specs,),
        out_specs=rows,
        check_vma=False,
    )
    return jax.jit(of_each).lower(tree).compile()
