"""Whether a feature that was brought to an experiment is right. Each check returns findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from axlearn_core.config import ConfigBase, Configurable, diff, find
from axlearn_core.module import Module, ParameterSpec, flatten_paths
from axlearn_core.training import Trainer
from modularity.catalogue import Feature


class Built(NamedTuple):
    """An experiment that was built."""

    config: Trainer.Config
    trainer: Trainer
    specs: dict[str, ParameterSpec]  # by path


def build(config: Trainer.Config) -> Built:
    trainer = config.instantiate()
    return Built(config, trainer, flatten_paths(trainer.model.parameter_specs()))


def has_old(feature: Feature, config: Trainer.Config) -> bool:
    """Whether there is something for the feature to change."""
    return feature.old is None or bool(find(config, feature.old))


def config_findings(feature: Feature, before: Trainer.Config, after: Trainer.Config) -> list[str]:
    """No old node is left in the config, as many new ones are there, and nothing else changed."""
    swapped: list[str] = []
    found: list[str] = []
    if feature.old is not None:
        new = feature.new_kind()
        swapped = _outermost([path for path, _ in find(before, feature.old)])
        inside = _outermost([path for path, _ in find(after, new)])
        left = [path for path, node in find(after, feature.old) if not isinstance(node, new.Config)]
        if feature.wraps:
            left = [path for path in left if not _below(path, inside)]
        found += [f"config: old {feature.old.__name__} left at {path}" for path in left]
        if inside != swapped:
            found.append(f"config: {len(swapped)} places had it, {len(inside)} have the new one")
    allowed = [*swapped, *feature.sets]
    elsewhere = [d.path for d in diff(before, after) if not _below(d.path, allowed)]
    return found + [f"config: changed elsewhere, at {path}" for path in elsewhere]


def built_findings(feature: Feature, before: Built, after: Built) -> list[str]:
    """No old object was built, and what the feature does not concern declares what it did."""
    found: list[str] = []
    if feature.old is not None:
        new = feature.new_kind()
        for path, thing, within in _objects(after.trainer):
            if not isinstance(thing, feature.old) or isinstance(thing, new):
                continue
            if not (feature.wraps and any(issubclass(kind, new) for kind in within)):
                found.append(f"built: old {type(thing).__name__} at {path}")
    pairs = list(untouched(feature, before.trainer.model, after.trainer.model))
    if not pairs:
        found.append("built: no part stayed as it was, so nothing could be compared")
    for module, _ in pairs:
        for path in parameter_paths(module, before.specs):
            if path not in after.specs:
                found.append(f"parameters: {path} is gone")
            elif not same_spec(before.specs[path], after.specs[path]):
                found.append(f"parameters: {path} is declared otherwise")
    return found


def untouched(feature: Feature, before: Module, after: Module) -> Iterator[tuple[Module, Module]]:
    """Yields the largest modules, before and after, that the feature has nothing to do with."""
    if type(before) is not type(after):
        return
    if before.config == after.config and not _recomputes(feature, before):
        yield before, after
        return
    for name, child in before.children.items():
        if name in after.children:
            yield from untouched(feature, child, after.children[name])


def parameter_paths(module: Module, specs: dict[str, ParameterSpec]) -> list[str]:
    """Returns the paths of a module's parameters in those of its model."""
    place = "/".join(module.path.split(".")[1:])
    return [path for path in specs if not place or path.startswith(f"{place}/")]


def same_spec(one: ParameterSpec, other: ParameterSpec) -> bool:
    """Whether two declarations are equal; initializers are, if they have the same config."""
    return _comparable(one) == _comparable(other)


def _comparable(spec: ParameterSpec) -> ParameterSpec:
    config: Any = getattr(spec.initializer, "config", None)
    return dataclasses.replace(spec, initializer=config) if isinstance(config, ConfigBase) else spec


def _recomputes(feature: Feature, module: Module) -> bool:
    kind = feature.recomputes
    return kind is not None and (
        isinstance(module, kind) or any(_recomputes(feature, m) for m in module.children.values())
    )


def _objects(root: Configurable) -> Iterator[tuple[str, Configurable, tuple[type, ...]]]:
    """Yields path, object and the classes around it of all that a built tree holds in attributes.

    What a layer makes without asking its config is found this way too.
    """
    seen: set[int] = set()

    def walk(value: Any, path: str, within: tuple[type, ...]) -> Iterator[Any]:
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                yield from walk(item, f"{path}.{index}", within)
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, f"{path}.{key}", within)
        elif isinstance(value, Configurable) and id(value) not in seen:
            seen.add(id(value))
            yield path, value, within
            for name, member in vars(value).items():
                if name not in ("parent", "children"):  # children are attributes, or reached below
                    yield from walk(member, f"{path}.{name}", (*within, type(value)))
            yield from walk(getattr(value, "children", None), path, (*within, type(value)))

    yield from walk(root, "trainer", ())


def _outermost(paths: list[str]) -> list[str]:
    return sorted(path for path in paths if not _below(path, [p for p in paths if p != path]))


def _below(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}.") for place in places)
