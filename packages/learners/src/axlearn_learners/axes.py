"""Where an optimizer's state lives: each array's logical axes, read off its transformation."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from axlearn_core.module.parameters import ParameterSpec, ParameterSpecs, flatten_paths, map_specs

Axes = tuple[str | None, ...]


def state_axes(transformation: optax.GradientTransformation, specs: ParameterSpecs) -> Any:
    """Returns the logical axes of every leaf of the transformation's state.

    `init` is traced with parameters that are sharded, by their types, over a mesh whose axes are
    the logical ones, so JAX itself says which dimensions of the parameter a state array has kept:
    a moment has all of them, the row of a factored moment all but one, a count none.

    Deviation: where a parameter has one name twice, only the first is kept, as in sharding.
    """
    names = sorted({axis for spec in flatten_paths(specs).values() for axis in spec.axes if axis})
    kinds = (AxisType.Explicit,) * len(names)
    mesh = AbstractMesh((1,) * len(names), tuple(names), axis_types=kinds)

    def struct(spec: ParameterSpec) -> jax.ShapeDtypeStruct:
        once = [n if n not in spec.axes[:i] else None for i, n in enumerate(spec.axes)]
        sharding = NamedSharding(mesh, PartitionSpec(*once))
        return jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=sharding)

    with jax.sharding.use_abstract_mesh(mesh):
        state = jax.eval_shape(transformation.init, map_specs(struct, specs))
    return jax.tree.map(_axes, state)


def _axes(leaf: jax.ShapeDtypeStruct) -> Axes:
    kept: Axes = tuple(leaf.sharding.spec) if isinstance(leaf.sharding, NamedSharding) else ()
    return (*kept, *(None,) * (len(leaf.shape) - len(kept)))
