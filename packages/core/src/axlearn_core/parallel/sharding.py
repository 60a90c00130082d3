"""From logical axis names to placements on the mesh.

Parameters and activations carry logical names ("embed", "batch"); an experiment's rules say which
mesh axes each name is split over. Layers never name a mesh axis.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from axlearn_core.config import ConfigError, near_names
from axlearn_core.module.parameters import ParameterSpec, flatten_paths, map_specs
from axlearn_core.parallel.mesh import MESH_AXES

Rules = Mapping[str, str | Sequence[str] | None]
AnyMesh = Mesh | AbstractMesh
"""An abstract one will do to trace, and to plan."""

DEFAULT_RULES: dict[str, str | tuple[str, ...] | None] = {
    # Parameters.
    "vocab": "model",
    "embed": "fsdp",
    "mlp": "model",
    "heads": "model",
    "kv_heads": "model",
    "head_dim": None,
    "layers": None,
    "stages": "pipeline",
    "adapters": None,  # any row of a batch may need any of them
    "expert": "expert",
    # Activations.
    "batch": ("data", "expert", "fsdp"),
    "seq": "seq",
    # The sequence of what norms read and layers add to: where a branch is split over `model`, the
    # tokens between two branches are (arXiv:2205.05198).
    "residual_seq": ("seq", "model"),
}


def check_rules(rules: Rules) -> None:
    """Raises a ConfigError for a rule that names no mesh axis."""
    for name, axes in rules.items():
        for axis in axes_of(axes):
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
        chosen = tuple(a for a in axes_of(rules.get(name) if name else None) if a not in used)
        used.update(chosen)
        parts.append(chosen if len(chosen) > 1 else (chosen[0] if chosen else None))
    return PartitionSpec(*parts)


def parameter_shardings(specs: Mapping[str, Any], mesh: AnyMesh, rules: Rules) -> dict[str, Any]:
    """Returns the NamedSharding of every parameter.

    Raises:
        ConfigError: listing every logical axis without a rule, or every dimension that its mesh
            axes do not divide, before compiling.
    """
    flat = flatten_paths(specs)
    unknown = [line for path, spec in flat.items() for line in _without_rule(path, spec, rules)]
    if unknown and mesh.size > 1:  # on one device there is nothing to say
        raise ConfigError(
            "no sharding rule says where these parameters lie:"
            + "".join(f"\n  {line}" for line in unknown)
            + "\nA rule names the mesh axes that split a logical axis; with null none does."
        )
    problems = [
        line for path, spec in flat.items() for line in _indivisible(path, spec, mesh, rules)
    ]
    if problems:
        raise ConfigError(
            "the mesh does not divide these parameters:"
            + "".join(f"\n  {problem}" for problem in problems)
            + "\nChange the dimension, the mesh, or the sharding rule of that logical axis."
        )
    return map_specs(lambda spec: NamedSharding(mesh, partition_spec(spec.axes, rules)), specs)


def _without_rule(path: str, spec: ParameterSpec, rules: Rules) -> Iterator[str]:
    for size, name in zip(spec.shape, spec.axes, strict=True):
        if name is not None and name not in rules:
            yield (
                f"{path}: axis {name!r} of size {size}, shape {spec.shape}; write "
                f"sharding_rules.{name}=null or a mesh axis.{near_names(name, rules)}"
            )


def _indivisible(path: str, spec: ParameterSpec, mesh: AnyMesh, rules: Rules) -> Iterator[str]:
    placed = partition_spec(spec.axes, rules)
    for size, name, axes in zip(spec.shape, spec.axes, placed, strict=True):
        count = ways(axes, mesh)
        if size % count:
            over = f"{' x '.join(axes_of(axes))} (={count})"
            yield f"{path}: axis {name!r} of size {size} over {over}, shape {spec.shape}"


def ways(axes: str | Sequence[str] | None, mesh: AnyMesh) -> int:
    """Returns into how many parts these mesh axes split a dimension."""
    return math.prod(mesh.shape[axis] for axis in axes_of(axes))


def axes_of(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the axes that a rule, or an entry of a PartitionSpec, names."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


# Activations.


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh and the rules that map logical axes onto it.

    To trace only, an AbstractMesh with an abstract device will do.
    """

    mesh: AnyMesh
    rules: Rules

    @property
    def platform(self) -> str:
        """What the program is compiled for, as jax names it: "cpu", "gpu" or "tpu".

        A mesh without devices is "any": of what is traced on it, only plain JAX is sure to serve.
        """
        mesh = self.mesh
        device = mesh.devices.flat[0] if isinstance(mesh, Mesh) else mesh.abstract_device
        platform: str = "any" if device is None else device.platform
        return {"cuda": "gpu"}.get(platform, platform)

    def sharding(self, *axes: str | None) -> NamedSharding:
        """Returns the placement of an array with these logical axes."""
        return NamedSharding(self.mesh, partition_spec(axes, self.rules))

    def ways(self, name: str) -> int:
        """Returns into how many parts a logical axis is split."""
        return ways(self.rules.get(name), self.mesh)

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


def mesh_axes(*names: str) -> tuple[str, ...]:
    """Returns the mesh axes over which logical axes are split, those of one device left out.

    For collectives by hand, inside of `per_device`. Outside `placing` there are none.
    """
    placement = _placement.get()
    if placement is None:
        return ()
    found = dict.fromkeys(axis for name in names for axis in axes_of(placement.rules.get(name)))
    return tuple(axis for axis in found if placement.mesh.shape[axis] > 1)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks the compiler to place an activation by its logical axes.

    Does nothing outside `placing` or on a mesh of one device, so layers may always call it. A mesh
    axis that does not divide what is there, such as one token, splits nothing.
    """
    placement = _placement.get()
    if placement is None or placement.mesh.size == 1:
        return x
    return _at(x, partition_spec(axes, placement.rules))


def _at(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    placement = _placement.get()
    assert placement is not None
    kept = [_dividing(part, size, placement.mesh) for part, size in zip(spec, x.shape, strict=True)]
    sharding = NamedSharding(placement.mesh, PartitionSpec(*kept))
    placed: jax.Array = jax.lax.with_sharding_constraint(x, sharding)
    return placed


def _dividing(axes: str | Sequence[str] | None, size: int, mesh: AnyMesh) -> tuple[str, ...] | None:
    kept = axes_of(axes)
    while size % ways(kept, mesh):
        kept = kept[:-1]
    return kept or None


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _placed(x: jax.Array, here: PartitionSpec | None, gradient: PartitionSpec) -> jax.Array:
    return x if here is None else _at(x, here)


_placed.defvjp(
    lambda x, here, gradient: (_placed(x, here, gradient), None),
    lambda here, gradient, _, g: (_at(g, gradient),),
)


def constrain_gradient(x: jax.Array, *axes: str | None) -> jax.Array:
    """Returns x, and asks the compiler to place its gradient by these logical axes."""
    placement = _placement.get()
    if placement is None or placement.mesh.size == 1:
        return x
    same: jax.Array = _placed(x, None, partition_spec(axes, placement.rules))
    return same


def constrain_weight(weight: jax.Array, *axes: str | None) -> jax.Array:
    """Places a parameter for its product with rows of a batch: gathered where those are split.

    That is split over the mesh axes that the batch leaves, and its gradient is split as the
    parameter itself is: an all-gather and a reduce-scatter for what is sharded over `fsdp`
    (ZeRO-3, arXiv:1910.02054). Said once, so that a compiler does not gather for each product.

    Args:
        weight: cast to the dtype of the product already, which is what is moved.
        axes: its logical axes.
    """
    placement = _placement.get()
    if placement is None or placement.mesh.size == 1:
        return weight
    beside = partition_spec(("batch", *axes), placement.rules)[1:]
    own = partition_spec(axes, placement.rules)
    # Pinned first, or else a compiler may gather it before it is cast.
    placed: jax.Array = _placed(_at(weight, own), PartitionSpec(*beside), own)
    return placed


def product_with_weight(
    product: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    weight: jax.Array,
    *axes: str | None,
) -> jax.Array:
    """Computes `product(x, weight)` with the weight placed by `constrain_weight`.

    The backward pass of a scanned layer gathers the weight once more: kept for it, the whole
    weights of all layers would lie on every device. Where a layer is made again, one gather does.
    """
    placement = _placement.get()
    if placement is None or placement.mesh.size == 1:
        return product(x, weight)

    def gathered(x: jax.Array, weight: jax.Array) -> jax.Array:
        return product(x, constrain_weight(weight, *axes))

    # A compiler may see that two gathers in one loop's body are the same.
    result: jax.Array = jax.checkpoint(gathered, prevent_cse=False)(x, weight)
    return result
