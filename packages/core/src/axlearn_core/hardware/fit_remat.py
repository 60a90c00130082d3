"""A mesh rule that looks at the memory: what layers keep for the backward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from axlearn_core.config import (
    REQUIRED,
    ConfigBase,
    ConfigModifier,
    apply_overrides,
    to_text,
)
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry

if TYPE_CHECKING:
    from axlearn_core.plan.blueprint import Blueprint
    from axlearn_core.plan.labels import Division

_drawn: dict[str, Blueprint] = {}
"""By config: a plan for many machines traces each model once."""


class FitRemat(ConfigModifier):
    """Keeps as many activations as fit, so that the fewest are computed twice.

    Tries what `axl plan --search` does (see `plan.candidates`): nothing is recomputed; all but some
    kinds of named activations, the largest kind first; all. Takes the first whose arrays,
    by arithmetic on the traced step, are within `fill` of the memory, or else the last. Goes after
    the rule that sets the mesh. Where layers have no field `remat`, where nobody knows the memory,
    or where the trainer cannot be built as it stands (the run says why), nothing changes.
    """

    class Config(ConfigModifier.Config):
        # Of the memory. Arithmetic is within 22% of compiled programs of some size
        # (benchmarks/results/plan_arithmetic.md), mostly within 8%; allocators want a few more.
        fill: float = 0.8
        offload: bool = False  # what does not fit waits in the host's memory, not made again
        # Set by core, as the machine is.
        device_count: int = REQUIRED
        memory_bytes: int | None = REQUIRED  # of a device, None where nobody knows

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        from axlearn_core.plan.candidates import recomputes

        registry, memory = get_registry(), self.config.memory_bytes
        nothing, *_ = recomputes(cfg, {}, registry)
        if memory is None or not nothing.overrides:
            return cfg
        try:
            whole = apply_overrides(cfg.clone(), nothing.overrides, resolve=registry.lookup)
            names = _blueprint(whole).census.names
        except UserError:
            return cfg
        nothing, *others = recomputes(cfg, names, registry)
        for policy in (nothing, *reversed(others)):
            changed = apply_overrides(cfg.clone(), policy.overrides, resolve=registry.lookup)
            if self._peak(changed) <= self.config.fill * memory:
                break
        if self.config.offload and policy is not nothing:
            words = [f"{path}.offload=.*" for path in _remats(policy.overrides)]
            apply_overrides(changed, words, resolve=registry.lookup)
        return changed

    def _peak(self, cfg: ConfigBase) -> float:
        """Returns the bytes that a device needs, none where the mesh does not fit (an error)."""
        from axlearn_core.plan.arithmetic import memory_of
        from axlearn_core.plan.demand import demand

        blueprint, division = _blueprint(cfg), _division(cfg, self.config.device_count)
        if not all(division.divides(argument.array) for argument in blueprint.arguments):
            return 0.0
        return memory_of(blueprint, division, demand(blueprint.census.body, division)).peak


def _remats(overrides: Sequence[str]) -> list[str]:
    """Returns the paths of what policies are set at."""
    paths = [word.partition("=")[0] for word in overrides]
    return [path for path in paths if path.endswith(".remat")]


def _division(cfg: Any, count: int) -> Division:
    from axlearn_core.parallel import infer_mesh_shape
    from axlearn_core.plan.labels import Division

    fast, slow = cfg.mesh_shape, cfg.slow_mesh_shape
    known = fast if -1 in slow.values() else slow
    domains = count // math.prod(fast.values()) if known is fast else math.prod(slow.values())
    outer, inner = infer_mesh_shape(slow, domains), infer_mesh_shape(fast, count // domains)
    sizes = {axis: size * outer[axis] for axis, size in inner.items()}
    return Division(sizes, cfg.sharding_rules, cfg.accumulation)


def _blueprint(cfg: ConfigBase) -> Blueprint:
    from axlearn_core.plan.blueprint import draw
    from axlearn_core.training.trainer import Trainer

    trainer = cast(Trainer.Config, cfg.clone(mesh_shape={"data": -1}, slow_mesh_shape={}))
    key = to_text(trainer)
    if key not in _drawn:
        _drawn[key] = draw(trainer.instantiate())
    return _drawn[key]
