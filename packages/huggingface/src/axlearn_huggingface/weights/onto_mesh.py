"""Published weights straight onto the devices of a mesh."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.module import Layer, flatten_paths, nest_paths
from axlearn_core.module.context import Tree
from axlearn_core.parallel import Placement, parameter_shardings
from axlearn_huggingface.weights.axes import Array
from axlearn_huggingface.weights.mapping import WeightMapping
from axlearn_huggingface.weights.transfer import imported


def import_onto_mesh(
    mapping: WeightMapping, model: Layer, tensors: Mapping[str, Any], placement: Placement
) -> Tree:
    """Returns the model's parameters as arrays that are placed already.

    One parameter of one layer at a time is in the host's memory, and each device gets its part.

    Args:
        mapping, model, tensors: as `import_weights` takes them.
        placement: the mesh, and the rules by which it splits parameters.

    Raises:
        WeightsError: as `import_weights`.
    """
    specs = model.parameter_specs()
    shardings = flatten_paths(parameter_shardings(specs, placement.mesh, placement.rules))
    structs = {path: spec.struct() for path, spec in flatten_paths(specs).items()}
    arrays: dict[str, jax.Array] = {}
    for parameter, array in imported(mapping, model, tensors):
        path, sharding = parameter.path, shardings[parameter.path]
        if not parameter.indices:
            arrays[path] = jax.device_put(array, sharding)
            continue
        if path not in arrays:
            arrays[path] = _empty(structs[path].shape, structs[path].dtype, sharding)
        inside = jax.sharding.NamedSharding(
            sharding.mesh, jax.sharding.PartitionSpec(*sharding.spec[len(parameter.indices) :])
        )
        arrays[path] = _put(arrays[path], jax.device_put(array, inside), parameter.indices)
    return nest_paths(arrays)


def _empty(shape: tuple[int, ...], dtype: Any, sharding: Any) -> jax.Array:
    made: jax.Array = jax.jit(lambda: jnp.empty(shape, dtype), out_shardings=sharding)()
    return made


@partial(jax.jit, donate_argnums=0)
def _put(whole: jax.Array, part: Array, indices: tuple[int, ...]) -> jax.Array:
    return whole.at[indices].set(part)
