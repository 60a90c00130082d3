"""Keeps the optimizer's state in the host's memory between the steps (arXiv:2101.06840)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.sharding import AbstractMesh

from axlearn_core.config import ConfigError
from axlearn_core.parallel.sharding import AnyMesh
from axlearn_core.training.state import TrainState

_HOST = "pinned_host"  # page-locked, so that devices read it by themselves


def check_host_memory(mesh: AnyMesh) -> None:
    """Raises a ConfigError if the mesh's devices cannot reach memory of their host."""
    if isinstance(mesh, AbstractMesh):  # nothing to ask
        return
    device = mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if _HOST not in kinds:
        raise ConfigError(
            f"offload_optimizer=true needs devices that reach their host's memory ({_HOST}); "
            f"{device.device_kind} has {', '.join(kinds) or 'none'}. Set it to false, and shard "
            "the state over more devices or choose an optimizer with a smaller one"
        )


def on_host(structs: TrainState) -> TrainState:
    """Returns the state's description with the optimizer's arrays in host memory, but scalars."""

    def move(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        if not x.shape:
            return x
        assert x.sharding is not None
        sharding = x.sharding.with_memory_kind(_HOST)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return dataclasses.replace(structs, learner=jax.tree.map(move, structs.learner))


def on_device(state: TrainState, structs: TrainState) -> TrainState:
    """Brings the optimizer's arrays to the devices, in a step; `structs` says where they are."""

    def move(x: jax.Array, struct: Any) -> jax.Array:
        if struct.sharding.memory_kind != _HOST:
            return x
        moved: jax.Array = jax.device_put(x, struct.sharding.with_memory_kind("device"))
        return moved

    return dataclasses.replace(state, learner=jax.tree.map(move, state.learner, structs.learner))
