"""A mesh rule that looks at the model: parameters over as few devices as hold them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from axlearn_core.config import REQUIRED, ConfigBase, ConfigModifier

BYTES_PER_PARAMETER: Final = 16
"""Of state and gradients: float32 parameters, two moments and gradients, 4 bytes each."""


class FitMesh(ConfigModifier):
    """Chooses the mesh from the model's parameters, the batch and the chip's memory, by arithmetic.

    In this order: everything divides; parameters, moments and gradients fit into `fill` of the
    memory; no tensor parallelism if one can do without; experts lie on as many devices of a
    network domain as they divide; parameters are sharded within a domain, and over several only as
    far as they must be; the rest of the devices share the batch. `axl plan --search` tries more.

    Where nothing divides, the parameters are sharded over all devices, and the error that follows
    says which of them cannot be.
    """

    class Config(ConfigModifier.Config):
        domain: int | None = None  # devices that the fast network joins; None is all of them
        fill: float = 0.5  # of the memory; the rest is for activations
        # Set by core, as the machine is.
        device_count: int = REQUIRED
        memory_bytes: int | None = REQUIRED  # of a device, None where nobody knows

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        trainer: Any = cfg
        count, memory = self.config.device_count, self.config.memory_bytes
        domain = count if self.config.domain is None else self.config.domain
        if count % domain:  # part of a domain, or not whole ones
            domain = count
        model = _Model.of(trainer)
        budget = math.inf if memory is None else self.config.fill * memory
        layouts = [
            layout
            for layout in _layouts(domain, count // domain)
            if model.divides(layout.sizes) and trainer.input.batch_size % layout.rows == 0
        ]
        if not layouts:
            return cfg.set(mesh_shape={"fsdp": -1})
        best = min(layouts, key=lambda layout: layout.cost(model.bytes_over(layout.sizes), budget))
        cfg.set(mesh_shape=_above_one(best.fast))
        if domain < count and domain > 1:
            cfg.set(slow_mesh_shape=_above_one(best.slow))
        elif domain < count:
            cfg.set(mesh_shape=_above_one(best.slow))
        return cfg


@dataclass(frozen=True)
class _Layout:
    """Sizes of mesh axes within a domain, and between domains."""

    fast: Mapping[str, int]
    slow: Mapping[str, int]

    @property
    def sizes(self) -> dict[str, int]:
        return {axis: size * self.slow.get(axis, 1) for axis, size in self.fast.items()}

    @property
    def rows(self) -> int:
        """How many parts a batch has."""
        return math.prod(self.sizes[axis] for axis in ("data", "expert", "fsdp"))

    def cost(self, needed: float, budget: float) -> tuple[float, ...]:
        """Sorts layouts: see `FitMesh`."""
        return (
            max(1.0, needed / budget),
            self.fast["model"],
            -self.fast["expert"],
            self.slow["fsdp"],
            -self.fast["fsdp"],
        )


@dataclass(frozen=True)
class _Model:
    """The parameters that have the same dimensions in the same places, and how many there are."""

    groups: Mapping[tuple[tuple[int, tuple[str, ...]], ...], int]

    @classmethod
    def of(cls, trainer: Any) -> _Model:
        from axlearn_core.module import flatten_paths
        from axlearn_core.parallel import partition_spec

        groups: dict[tuple[tuple[int, tuple[str, ...]], ...], int] = {}
        model = trainer.model.clone().instantiate(name="model")
        for spec in flatten_paths(model.parameter_specs()).values():
            placed = partition_spec(spec.axes, trainer.sharding_rules)
            axes = tuple((part,) if isinstance(part, str) else tuple(part or ()) for part in placed)
            key = tuple(zip(spec.shape, axes, strict=True))
            groups[key] = groups.get(key, 0) + 1
        return cls(groups)

    def divides(self, sizes: Mapping[str, int]) -> bool:
        """Whether every dimension does, and every axis larger than 1 has something to split."""
        used = {axis for key in self.groups for _, axes in key for axis in axes}
        idle = (size for axis, size in sizes.items() if axis not in {*used, "data"})
        return all(size == 1 for size in idle) and all(
            dim % math.prod(sizes.get(axis, 1) for axis in axes) == 0
            for key in self.groups
            for dim, axes in key
        )

    def bytes_over(self, sizes: Mapping[str, int]) -> float:
        """Of state and gradients, on each device."""
        return BYTES_PER_PARAMETER * sum(
            count
            * math.prod(dim / math.prod(sizes.get(axis, 1) for axis in axes) for dim, axes in key)
            for key, count in self.groups.items()
        )


def _layouts(domain: int, domains: int) -> Iterator[_Layout]:
    for fast in _factors(domain, 4):
        for slow in _factors(domains, 2):
            yield _Layout(
                dict(zip(("data", "expert", "fsdp", "model"), fast, strict=True)),
                dict(zip(("data", "fsdp"), slow, strict=True)),
            )


def _factors(number: int, ways: int) -> Iterator[tuple[int, ...]]:
    """Yields all tuples of `ways` factors whose product is `number`."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    for head in itertools.product(divisors, repeat=ways - 1):
        rest, remainder = divmod(number, math.prod(head))
        if not remainder:
            yield (*head, rest)


def _above_one(sizes: Mapping[str, int]) -> dict[str, int]:
    return {axis: size for axis, size in sizes.items() if size > 1}
