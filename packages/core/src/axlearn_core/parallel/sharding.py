"""From logical axis names to placements on the mesh.

Parameters and activations carry logical names ("embed", "batch"); an experiment's rules say which
mesh axes each name is split over. Layers never name a mesh axis.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from axlearn_core.config import ConfigError, near_names
from axlearn_core.module.parameters import ParameterSpec, flatten_paths, map_specs
from axlearn_core.parallel.mesh import MESH_AXES

Rules = Mapping[str, str | Sequence[str] | None]

DEFAULT_RULES: dict[str, str | tuple[str, ...] | None] = {
    # Parameters.
    "vocab": "model",
    "embed": "fsdp",
    "mlp": "model",
    "heads": "model",
    "kv_heads": "model",
    "head_dim": None,
    "layers": None,
    "adapters": None,  # any row of a batch may need any of them
    "expert": "expert",
    # Activations.
    "batch": ("data", "expert", "fsdp"),
    "seq": "seq",
}


def check_rules(rules: Rules) -> None:
    """Raises a ConfigError for a rule that names no mesh axis."""
    for name, axes in rules.items():
        for axis in _axes(axes):
            if axis not in MESH_AXES:
                raise ConfigError(
                    f"the sharding rule {name!r}: {axes!r} names no mesh axis."
                    f"{near_names(axis, MESH_AXES)} Mesh axes: {', '.join(MESH_AXES)}."
                )


def partition_spec(axes: Sequence[str | None], rules: Rules) -> PartitionSpec:
    """Maps the logical axes of one array to mesh axes. A mesh axis is used once, first come."""
    used: set[str] = set()
    parts: list[Any] = []
    for name in axes:
        chosen = tuple(a for a in _axes(rules.get(name) if name else None) if a not in used)
        used.update(chosen)
        parts.append(chosen if len(chosen) > 1 else (chosen[0] if chosen else None))
    return PartitionSpec(*parts)


def parameter_shardings(
    specs: Mapping[str, Any], mesh: Mesh | AbstractMesh, rules: Rules
) -> dict[str, Any]:
    """Returns the NamedSharding of every parameter.

    Raises:
        ConfigError: listing every dimension that its mesh axes do not divide, before compiling.
    """
    problems = [
        problem
        for path, spec in flatten_paths(specs).items()
        for problem in _indivisible(path, spec, mesh, rules)
    ]
    if problems:
        raise ConfigError(
            "the mesh does not divide these parameters:"
            + "".join(f"\n  {problem}" for problem in problems)
            + "\nChange the dimension, the mesh, or the sharding rule of that logical axis."
        )
    return map_specs(lambda spec: NamedSharding(mesh, partition_spec(spec.axes, rules)), specs)


def _indivisible(
    path: str, spec: ParameterSpec, mesh: Mesh | AbstractMesh, rules: Rules
) -> Iterator[str]:
    placed = partition_spec(spec.axes, rules)
    for size, name, axes in zip(spec.shape, spec.axes, placed, strict=True):
        ways = 1
        for axis in _axes(axes):
            ways *= mesh.shape[axis]
        if size % ways:
            where = " x ".join(_axes(axes))
            yield f"{path}: axis {name!r} of size {size} over {where} (={ways}), shape {spec.shape}"


def _axes(value: str | Sequence[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


# Activations.


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh and the rules that map logical axes onto it."""

    mesh: Mesh | AbstractMesh
    rules: Rules

    @property
    def platform(self) -> str:
        """What the program is compiled for, as jax names it: "cpu", "gpu" or "tpu".

        A mesh without devices is "any": of what is traced on it, only plain JAX is sure to serve.
        """
        if isinstance(self.mesh, AbstractMesh):
            return "any"
        platform: str = self.mesh.devices.flat[0].platform
        return {"cuda": "gpu"}.get(platform, platform)

    def sharding(self, *axes: str | None) -> NamedSharding:
        """Returns the placement of an array with these logical axes."""
        return NamedSharding(self.mesh, partition_spec(axes, self.rules))

    def batch(self, rank: int) -> NamedSharding:
        """Returns the placement of a batch's array of shape [batch, seq, ...]."""
        return self.sharding(*("batch", "seq")[:rank], *[None] * (rank - 2))


_placement: contextvars.ContextVar[Placement | None] = contextvars.ContextVar(
    "placement", default=None
)


@contextlib.contextmanager
def placing(placement: Placement) -> Iterator[None]:
    """Within the block (while tracing), `constrain` places activations."""
    token = _placement.set(placement)
    try:
        yield
    finally:
        _placement.reset(token)


def current_placement() -> Placement | None:
    """Returns the placement of the surrounding `placing`, None outside of one."""
    return _placement.get()


def current_platform() -> str:
    """Returns what is being traced for, which need not be what this process runs on."""
    placement = _placement.get()
    return jax.default_backend() if placement is None else placement.platform


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks the compiler to place an activation by its logical axes.

    Does nothing outside `placing` or on a mesh of one device, so layers may always call it.
    """
    placement = _placement.get()
    if placement is None or placement.mesh.size == 1:
        return x
    placed: jax.Array = jax.lax.with_sharding_constraint(x, placement.sharding(*axes))
    return placed
