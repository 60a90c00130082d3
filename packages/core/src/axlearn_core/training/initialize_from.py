"""Parameters of another run to begin with, by rules that are data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.checkpoint import (
    ArrayInfo,
    choose,
    parameters_of,
    read_array,
    read_manifest,
)
from axlearn_core.checkpoint.checkpointer import flatten_state
from axlearn_core.config import ConfigError, Configurable
from axlearn_core.errors import UserError
from axlearn_core.observe.progress import Progress
from axlearn_core.parallel import from_first
from axlearn_core.training.program import Program
from axlearn_core.training.state import TrainState

_MOST_NAMES = 12  # in a line


class InitializeFrom(Configurable):
    """Which parameters to take from a checkpoint when a run begins; all others are drawn.

    Names are paths such as `stack.layer.attention.output.weight`, frozen parameters among them.
    Nothing else is taken: no step, no learner's state, no place in the data.
    """

    class Config(Configurable.Config):
        checkpoint: str | None = None  # the directory of a run
        step: int | None = None  # of the checkpoint; null takes the newest intact one
        # (pattern, replacement): a regular expression for whole names of this model, and the name
        # there, such as ("decoder\.(.*)", "model.\1"). The first that matches counts; an empty
        # replacement takes nothing. Names that no pattern matches are the same there.
        rules: list[tuple[str, str]] = []
        # Patterns of names whose array may be larger here in any dimension, such as a vocabulary:
        # what is there becomes its first part, and the rest is drawn.
        grow: list[str] = []

    def __init__(self, config: Config):
        super().__init__(config)
        for pattern in [*(pattern for pattern, _ in config.rules), *config.grow]:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"initialize_from: {pattern!r} is no regular expression: {error}"
                ) from error

    def state(self, program: Program, progress: Progress) -> TrainState:
        """Returns the state of a run that begins, and says what was taken and what was not.

        Raises:
            UserError: if the checkpoint cannot be used, an array does not fit, a rule matches
                nothing, or nothing is left to take.
        """
        state = program.initial_state()
        if self.config.checkpoint is None:
            return state
        directory = Path(self.config.checkpoint)
        folder = Path(from_first(lambda: str(_folder(directory, self.config.step))))
        held = parameters_of(read_manifest(folder).arrays)
        if not held:
            raise UserError(f"{folder} keeps its arrays as older versions did; save it anew")
        ours = flatten_state({"params": state.params, "module_state": state.module_state})
        plan = self.plan({name.partition(".")[2]: x for name, x in ours.items()}, held)
        for line in plan.lines(folder):
            progress.say(line)
        taken = {
            name: _take(x, folder, held[source])
            for name, x in ours.items()
            if (source := plan.sources.get(name.partition(".")[2]))
        }
        return _with_parameters(state, {**ours, **taken}, program)

    def plan(self, ours: Mapping[str, Any], held: Mapping[str, ArrayInfo]) -> Plan:
        """Finds where each parameter comes from.

        Args:
            ours: what has a shape, by name.
            held: the arrays of the checkpoint, by name.
        """
        idle = {pattern for pattern, _ in self.config.rules} | set(self.config.grow)
        sources, drawn, grown, problems = {}, [], [], []
        for name, x in ours.items():
            source = self._source(name, idle)
            if source not in held:
                drawn.append(name if source in ("", name) else f"{name} ({source} is not there)")
                continue
            there = held[source].shape
            larger = [p for p in self.config.grow if re.fullmatch(p, name)]
            idle -= set(larger)
            if there != x.shape and not (larger and _fits(there, x.shape)):
                problems.append(f"{name} is {list(x.shape)} here, {source} {list(there)} there")
            elif there != x.shape:
                grown.append(f"{name} {list(there)} -> {list(x.shape)}")
            sources[name] = source
        if problems:
            raise UserError(
                f"initialize_from: arrays do not fit:{_listed(problems)}\nA rule with an empty "
                "replacement leaves one as it is drawn; `grow` allows one to be larger here"
            )
        if idle:
            raise UserError(
                f"initialize_from: no parameter matches {', '.join(map(repr, sorted(idle)))}; the "
                f"names are:{_listed(list(ours))}"
            )
        if not sources:
            raise UserError(
                f"initialize_from: no parameter is there under the name that it has here:"
                f"{_listed(list(ours))}\nThere:{_listed(list(held))}"
            )
        return Plan(sources, drawn, grown, sorted(held.keys() - set(sources.values())))

    def _source(self, name: str, idle: set[str]) -> str:
        for pattern, replacement in self.config.rules:
            if found := re.fullmatch(pattern, name):
                idle.discard(pattern)
                return found.expand(replacement)
        return name


class Plan(NamedTuple):
    """What is taken, and what is not.

    Attributes:
        sources: names there by names here.
        drawn: parameters of this model that are not taken.
        grown: `name shape -> shape` of those that are larger here.
        unused: names there that nothing here takes.
    """

    sources: dict[str, str]
    drawn: list[str]
    grown: list[str]
    unused: list[str]

    def lines(self, folder: Path) -> list[str]:
        """Returns what to say."""
        total = len(self.sources) + len(self.drawn)
        lines = [f"took {len(self.sources)} of {total} parameters from {folder}"]
        lines += [f"  {name}" for name in self.grown]
        if self.drawn:
            lines.append(f"  not restored, drawn at random:{_listed(self.drawn)}")
        if self.unused:
            lines.append(f"  there and not used:{_listed(self.unused)}")
        return lines


def _folder(directory: Path, step: int | None) -> Path:
    info, _ = choose(directory, step)
    assert info is not None  # choose raises
    return info.path


def _fits(there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    return len(there) == len(here) and all(a <= b for a, b in zip(there, here, strict=True))


def _take(x: jax.Array, folder: Path, info: ArrayInfo) -> jax.Array:
    """Returns an array like `x` whose first part, or all, is that of the checkpoint."""
    dtype = np.dtype(x.dtype)
    there = read_array(folder, info).astype(dtype, copy=False)

    def part(index: tuple[slice, ...] | None) -> NDArray[Any]:
        assert index is not None  # as it is for arrays of numbers
        ranges = [s.indices(size)[:2] for s, size in zip(index, x.shape, strict=True)]
        found = np.zeros([to - start for start, to in ranges], dtype)
        held = there[tuple(slice(start, to) for start, to in ranges)]
        found[tuple(slice(size) for size in held.shape)] = held
        return found

    padded = jax.make_array_from_callback(x.shape, x.sharding, part)
    return padded if there.shape == x.shape else _first_part(x, padded, there.shape)


def _first_part(drawn: jax.Array, padded: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    def merged(drawn: jax.Array, padded: jax.Array) -> jax.Array:
        inside = jnp.ones(drawn.shape, bool)
        for axis, size in enumerate(shape):
            inside &= jax.lax.broadcasted_iota(jnp.int32, drawn.shape, axis) < size
        return jnp.where(inside, padded, drawn)

    return cast(jax.Array, jax.jit(merged, out_shardings=drawn.sharding)(drawn, padded))


def _with_parameters(
    state: TrainState, named: Mapping[str, jax.Array], program: Program
) -> TrainState:
    """The learner begins with the new parameters: it may keep a copy of them."""
    both = {"params": state.params, "module_state": state.module_state}
    leaves = [named[name] for name in flatten_state(both)]
    new = jax.tree.unflatten(jax.tree.structure(both), leaves)
    shardings = jax.tree.map(lambda x: x.sharding, program.state.learner)
    learner = jax.jit(program.learner.init, out_shardings=shardings)(new["params"])
    return dataclasses.replace(state, **new, learner=learner)


def _listed(names: list[str]) -> str:
    more = [f"... and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return "".join(f"\n    {name}" for name in [*names[:_MOST_NAMES], *more])
