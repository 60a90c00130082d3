"""Groups of parameters that are trained in their own way, or not at all."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigBase, ConfigError
from axlearn_core.module.parameters import ParameterSpec, ParameterSpecs, flatten_paths
from axlearn_core.training.learner import Params
from axlearn_core.training.schedule import Step
from axlearn_core.training.state import merge_trees
from axlearn_learners.clipping import global_norm
from axlearn_learners.optimizers import Optimizer
from axlearn_learners.partition import map_paths, partition, pick

REST = "rest"  # the parameters of no group


class ParameterGroup(ConfigBase):
    """Which parameters, by whole path or logical axis (both: those that match both), and how."""

    path: str | None = None  # regular expression for whole paths, such as ".*/bias"
    axis: str | None = None  # a logical axis that they have, such as "vocab"
    frozen: bool = False  # leave them as they are: no optimizer state, no share in norms
    rate_scale: float = 1.0  # multiplies updates, weight decay included; >= 0
    decay_scale: float = 1.0  # multiplies their weight decay; 0: none
    optimizer: Optimizer.Config | None = None  # their own; None: that of the learner


def assign(
    groups: Mapping[str, ParameterGroup], specs: ParameterSpecs
) -> dict[str, frozenset[str]]:
    """Returns the paths of each group, and of the rest. The first group that matches has them.

    Raises:
        ConfigError: if a group is named like the rest, matches nothing, or says nothing.
    """
    if REST in groups:
        raise ConfigError(f"groups[{REST!r}] is what no group matches; choose another name")
    left = flatten_paths(specs)
    paths: dict[str, frozenset[str]] = {}
    for name, group in groups.items():
        _check(name, group)
        matched = {path for path, spec in left.items() if _matches(group, path, spec)}
        if not matched:
            raise ConfigError(_nothing(name, group, specs))
        paths[name] = frozenset(matched)
        left = {path: spec for path, spec in left.items() if path not in matched}
    return paths | {REST: frozenset(left)}


def _matches(group: ParameterGroup, path: str, spec: ParameterSpec) -> bool:
    by_path = group.path is None or re.fullmatch(group.path, path) is not None
    return by_path and (group.axis is None or group.axis in spec.axes)


def _check(name: str, group: ParameterGroup) -> None:
    where = f"groups[{name!r}]"
    if group.path is None and group.axis is None:
        raise ConfigError(f"{where} names no parameters; write its path or its axis")
    if group.rate_scale < 0:
        raise ConfigError(f"{where}.rate_scale (={group.rate_scale}) must not be negative")
    trained = group.rate_scale != 1 or group.decay_scale != 1 or group.optimizer is not None
    if group.frozen and trained:
        raise ConfigError(
            f"{where} is frozen, so its rate_scale, decay_scale and optimizer do nothing; "
            "drop them, or write frozen=False"
        )


def _nothing(name: str, group: ParameterGroup, specs: ParameterSpecs) -> str:
    asked = {"path": group.path, "axis": group.axis}
    rule = ", ".join(f"{key}={value!r}" for key, value in asked.items() if value is not None)
    everything = flatten_paths(specs)
    if any(_matches(group, path, spec) for path, spec in everything.items()):
        return (
            f"groups[{name!r}] ({rule}) matches only parameters that groups before it have; "
            "write it before them"
        )
    axes = sorted({axis for spec in everything.values() for axis in spec.axes if axis})
    return (
        f"groups[{name!r}] ({rule}) matches no parameter. A path must match whole, as '.*/bias' "
        f"does; the paths are: {', '.join(everything)}; the axes are: {', '.join(axes)}"
    )


class GroupedOptimizer:
    """Trains parameters by group, with one optimizer for all groups that have none of their own.

    Where no group has its own, the state is that of the one; else it is `{group: state}`, in which
    "rest" is the one's. Frozen parameters are not in it.

    Attributes:
        paths: what each group trains, without frozen groups.
        specs: the declarations of all that is trained, with the decay of their groups.
    """

    def __init__(
        self, optimizer: Optimizer, groups: Mapping[str, ParameterGroup], specs: ParameterSpecs
    ) -> None:
        self._groups = {n: g for n, g in groups.items() if not g.frozen}
        paths = assign(groups, specs)
        self.paths = {n: paths[n] for n in (*self._groups, REST) if paths[n]}
        if groups and not self.paths:
            raise ConfigError(f"groups {', '.join(groups)} leave no parameter to train")
        self._group_of = {path: n for n, own in self.paths.items() for path in own}
        self.specs = self._decayed(self.trained(specs))
        self._optimizers = {
            n: g.optimizer.instantiate() for n, g in self._groups.items() if g.optimizer
        }
        shared = [own for n, own in self.paths.items() if n not in self._optimizers]
        self._parts = {n: self.paths[n] for n in self._optimizers}
        if shared or not self._optimizers:
            self._optimizers[REST] = optimizer
            self._parts[REST] = frozenset[str]().union(*shared)
        self._check_scales(optimizer)
        made = {
            n: self._transformation(n, pick(self.specs, self._parts[n])) for n in self._optimizers
        }
        self._single = list(made) == [REST]
        self.transformation = made[REST] if self._single else partition(made, self._parts)

    def trained(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the part of a tree that is not frozen."""
        return pick(tree, self._group_of)

    def scaled(self, updates: Params) -> Params:
        """Multiplies updates by the `rate_scale` of their groups."""

        def one(path: str, u: jax.Array) -> jax.Array:
            scale = self._rate_scale(self._group_of[path])
            return u if scale == 1 else u * jnp.asarray(scale, u.dtype)

        scaled: Params = map_paths(one, updates)
        return scaled

    def evaluation_params(self, params: Params, state: Any) -> Params:
        """Returns the parameters to evaluate with, as the optimizer of each says."""
        for name, optimizer in self._optimizers.items():
            own = pick(params, self._parts[name])
            own_state = state if self._single else state[name]
            params = merge_trees(params, optimizer.evaluation_params(own, own_state))
        return params

    def norms(self, kind: str, tree: Params) -> dict[str, jax.Array]:
        """Returns `{"kind/group": norm}`; nothing where all parameters are one group."""
        if not self._groups:
            return {}
        return {f"{kind}/{n}": global_norm(pick(tree, own)) for n, own in self.paths.items()}

    def learning_rates(self, step: Step) -> dict[str, jax.Array]:
        """Returns `{"learning_rate/group": rate}` of groups with a rate of their own."""
        return {
            f"learning_rate/{n}": self._rate_scale(n)
            * self._optimizers[n if n in self._optimizers else REST].learning_rate(step)
            for n, g in self._groups.items()
            if g.optimizer is not None or g.rate_scale != 1
        }

    def _transformation(self, name: str, specs: ParameterSpecs) -> Any:
        try:
            return self._optimizers[name].transformation(specs)
        except ConfigError as error:
            where = "optimizer" if name == REST else f"groups[{name!r}].optimizer"
            raise ConfigError(f"{where}: {error}") from error

    def _rate_scale(self, name: str) -> float:
        return self._groups[name].rate_scale if name in self._groups else 1.0

    def _decayed(self, specs: ParameterSpecs) -> ParameterSpecs:
        """Multiplies the declared decay by that of the groups.

        Gains and biases, which declare none, also lose their `fan_in_axes`: what a group does not
        decay must stay apart from them, since some optimizers treat matrices in another way.
        """

        def one(path: str, spec: ParameterSpec) -> ParameterSpec:
            group = self._groups.get(self._group_of[path])
            scale = spec.weight_decay_scale * (group.decay_scale if group else 1.0)
            fan_in = spec.fan_in_axes if spec.weight_decay_scale else ()
            return dataclasses.replace(spec, weight_decay_scale=scale, fan_in_axes=fan_in)

        decayed: ParameterSpecs = map_paths(one, specs)
        return decayed

    def _check_scales(self, shared: Optimizer) -> None:
        """Refuses to scale updates of which an optimizer computes what to evaluate with."""
        for name, group in self._groups.items():
            optimizer = self._optimizers.get(name, shared)
            averages = type(optimizer).evaluation_params is not Optimizer.evaluation_params
            if averages and group.rate_scale != 1:
                raise ConfigError(
                    f"groups[{name!r}].rate_scale (={group.rate_scale}) would break the mean that "
                    f"{type(optimizer).__qualname__} evaluates with; give the group an optimizer "
                    "of its own, with a scaled learning_rate"
                )
