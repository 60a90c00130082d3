"""What a run is between two steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from axlearn_core.module import ParameterSpec, ParameterSpecs, fold_in_name
from axlearn_core.training.learner import Learner
from axlearn_core.training.model import Model

Tree = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """Everything that the next step depends on, besides its batch.

    Attributes:
        step: [] int32, how many updates were made.
        params: the trainable parameters, nested by module name.
        learner: the learner's state (an optax state, for one).
        module_state: the parameters that no gradient changes.
        key: [...] uint32, the data of the run's random key.
        halted: [] bool, whether a loss or gradient was not finite, or a spike that is not skipped.
            No later step changes anything.
        seen: what `guards.numbers` remembers of the steps before; by default nothing.
    """

    step: jax.Array
    params: Tree
    learner: Any
    module_state: Tree
    key: jax.Array
    halted: jax.Array
    seen: dict[str, jax.Array] = dataclasses.field(default_factory=dict)


def initial_state(model: Model, learner: Learner, seed: int) -> TrainState:
    """Creates the state of a run that begins. Trace it under jit to create it sharded."""
    key = jax.random.key(seed)
    specs = model.parameter_specs()
    params, module_state = split_trainable(model.initialize(fold_in_name(key, "init")), specs)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        learner=learner.init(params),
        module_state=module_state,
        key=jax.random.key_data(fold_in_name(key, "train")),
        halted=jnp.zeros((), jnp.bool_),
    )


def state_axes(model: Model, learner: Learner) -> TrainState:
    """Returns a tree like the state with the logical axes (a tuple) of every array."""
    specs = model.parameter_specs()
    trainable, rest = split_trainable(specs, specs)
    return TrainState(
        step=(),  # type: ignore[arg-type]
        params=_axes(trainable),
        learner=learner.state_axes(),
        module_state=_axes(rest),
        key=(None,),  # type: ignore[arg-type]
        halted=(),  # type: ignore[arg-type]
    )


def _axes(specs: ParameterSpecs) -> Tree:
    return {
        name: spec.axes if isinstance(spec, ParameterSpec) else _axes(spec)
        for name, spec in specs.items()
    }


def split_trainable(tree: Mapping[str, Any], specs: ParameterSpecs) -> tuple[Tree, Tree]:
    """Splits a tree like `specs` into its trainable and its other leaves."""
    trainable: Tree = {}
    rest: Tree = {}
    for name, spec in specs.items():
        if isinstance(spec, ParameterSpec):
            (trainable if spec.trainable else rest)[name] = tree[name]
            continue
        yes, no = split_trainable(tree[name], spec)
        if yes:
            trainable[name] = yes
        if no:
            rest[name] = no
    return trainable, rest


def merge_trees(first: Mapping[str, Any], second: Mapping[str, Any]) -> Tree:
    """Joins two nested dicts; where both hold a leaf, the second one's counts."""
    merged = dict(first)
    for name, value in second.items():
        both = name in merged and isinstance(value, Mapping)
        merged[name] = merge_trees(merged[name], value) if both else value
    return merged
