"""What a search tries: meshes, micro-batches, and what layers keep for the backward pass."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from axlearn_core.config import ConfigBase, find
from axlearn_core.config.tree import config_class
from axlearn_core.module import flatten_paths
from axlearn_core.parallel import MESH_AXES
from axlearn_core.plugins import Registry
from axlearn_core.training.trainer import Trainer

# Beyond these a mesh axis sends more than it saves on any machine that is known here.
_MOST = {"model": 16, "seq": 16}


@dataclass(frozen=True)
class Recompute:
    """Which activations layers make again in the backward pass, as overrides."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """One way to train."""

    mesh: Mapping[str, int]  # over all devices; axes larger than 1
    slow: Mapping[str, int]  # the part of them between network domains, such as nodes
    accumulation: int
    recompute: Recompute

    @property
    def overrides(self) -> tuple[str, ...]:
        """Returns what to add to the command line."""
        fast = {axis: size // self.slow.get(axis, 1) for axis, size in self.mesh.items()}
        within = {axis: size for axis, size in fast.items() if size > 1} or {"data": 1}
        return (
            f"mesh_shape={json.dumps(within)}",
            *([f"slow_mesh_shape={json.dumps(dict(self.slow))}"] if self.slow else []),
            f"accumulation={self.accumulation}",
            *self.recompute.overrides,
        )


def slow_axes(mesh: Mapping[str, int], domains: int) -> dict[str, int]:
    """Returns the part of a mesh that lies between domains: of its outermost axes."""
    slow: dict[str, int] = {}
    for axis in MESH_AXES:
        part = math.gcd(mesh.get(axis, 1), domains)
        if part > 1:
            slow[axis] = part
            domains //= part
    return slow


def recomputes(config: ConfigBase, names: Mapping[str, int], registry: Registry) -> list[Recompute]:
    """Returns the policies to try: from keeping everything to keeping nothing.

    Between them kinds of named activations are kept (those of attention, of feed-forward layers;
    the word before the first underscore), the smallest first, each with all before it.

    Args:
        config: of the trainer. What has a field `remat` can recompute; of such nodes within one
            another, the innermost do.
        names: bytes of what layers name.
        registry: knows what the policy is called.
    """
    nodes = {path: node for path, node in find(config, ConfigBase) if "remat" in dict(node.items())}
    policies = {
        path: policy
        for path, node in nodes.items()
        if not any(other.startswith(f"{path}.") for other in nodes)
        and (policy := _policy(node, registry)) is not None
    }
    if not policies:
        return [Recompute("as it is", ())]

    def override(save: str) -> tuple[str, ...]:
        words: list[str] = []
        for path, policy in policies.items():
            words += [f"{path}.remat={policy}", f"{path}.remat.save={save or 'null'}"]
        return tuple(words)

    sizes: Counter[str] = Counter()
    for name, size in names.items():
        sizes[name.partition("_")[0]] += size
    ladder = sorted(sizes, key=lambda kind: (sizes[kind], kind))
    saved = ["|".join(f"{kind}_.*" for kind in ladder[:end]) for end in range(len(ladder) + 1)]
    return [
        Recompute("nothing", tuple(f"{path}.remat=null" for path in policies)),
        *(Recompute(f"all but {some}" if some else "all", override(some)) for some in saved),
    ]


def _policy(node: ConfigBase, registry: Registry) -> str | None:
    """Returns the registered name of what the field `remat` takes."""
    declared = config_class(node.annotation("remat"))
    return None if declared is None else registry.name_of(declared._target)


def meshes(trainer: Trainer, count: int) -> Iterator[dict[str, int]]:
    """Yields the meshes of `count` devices that could make sense, in a fixed order.

    `expert` and `pipeline` are split only where parameters have such an axis. What does not divide
    is for the caller to find out.
    """
    sizes: dict[str, int] = {}
    for spec in flatten_paths(trainer.model.parameter_specs()).values():
        for size, name in zip(spec.shape, spec.axes, strict=True):
            if name in ("expert", "stages"):
                sizes[name] = size
    stages = sizes.get("stages", 1)
    if count % stages:
        return
    rest = count // stages
    for model in _divisors(rest, _MOST["model"]):
        for seq in _divisors(rest // model, _MOST["seq"]):
            for expert in _divisors(rest // model // seq, sizes.get("expert", 1)):
                for fsdp in _divisors(rest // model // seq // expert, count):
                    mesh = {
                        "pipeline": stages,
                        "data": rest // model // seq // expert // fsdp,
                        "expert": expert,
                        "fsdp": fsdp,
                        "seq": seq,
                        "model": model,
                    }
                    yield {axis: size for axis, size in mesh.items() if size > 1}


def _divisors(number: int, most: int) -> list[int]:
    return [size for size in range(1, min(number, most) + 1) if number % size == 0]
