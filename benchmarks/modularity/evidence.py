"""Numbers of experiments: how they start, what their parts compute, what a training step gives."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from axlearn_core.module import Module, flatten_paths, functional
from axlearn_core.testing.contracts.subject import compiled
from axlearn_core.training.state import initial_state, merge_trees
from axlearn_core.training.step import make_train_step
from axlearn_layers import (
    Embedding,
    FeedForward,
    Norm,
    Projection,
    QKVProjection,
    SequenceInfo,
    SequenceLayer,
)
from modularity.catalogue import Feature
from modularity.checks import Built, same_spec, untouched

BATCH, SEQ = 2, 8


class Numbers(NamedTuple):
    """Of one experiment.

    Attributes:
        start: all parameters as they start, by path.
        outputs: what each part computes of random inputs with these parameters, by path.
        loss: of the first step.
        finite: whether the step was made.
    """

    start: dict[str, np.ndarray[Any, Any]]
    outputs: dict[str, list[np.ndarray[Any, Any]]]
    loss: float
    finite: bool


def numbers(built: Built) -> Numbers:
    """Makes one training step, and calls each part by itself."""
    trainer = built.trainer
    model, learner = trainer.model, trainer.learner
    state = compiled(lambda: initial_state(model, learner, seed=0))()
    start = merge_trees(state.params, state.module_state)
    batch = jax.tree.map(jax.numpy.asarray, next(trainer.input.batches()))
    _, metrics = compiled(make_train_step(model, learner))(state, batch)
    made = compiled(lambda start: outputs(model, start))(start)
    return Numbers(
        jax.tree.map(np.asarray, flatten_paths(start)),
        jax.tree.map(np.asarray, made),
        float(metrics["loss"]),
        bool(metrics["good"]),
    )


def trace(built: Built) -> None:
    """Traces the loss in training, and computes nothing."""
    trainer = built.trainer
    shapes = {
        name: jax.ShapeDtypeStruct(shape, dtype)
        for name, (shape, dtype) in trainer.input.batch_shape().items()
    }

    def loss(key: jax.Array, batch: Any) -> Any:
        state = trainer.model.initialize(key)
        return functional(
            trainer.model, state=state, prng_key=key, inputs=(batch,), is_training=True
        )[0]

    jax.eval_shape(loss, jax.random.key(0), shapes)


def outputs(root: Module, state: dict[str, Any]) -> dict[str, list[jax.Array]]:
    """Calls every part of a model whose inputs are known, operation by operation."""
    found: dict[str, list[jax.Array]] = {}
    for name, child in root.children.items():
        own = _one_layer(child, state.get(name, {}))
        inputs = _example(child)
        if inputs is not None:
            made, _ = functional(child, state=own, prng_key=jax.random.key(0), inputs=inputs)
            found[child.path] = jax.tree.leaves(made)
        found |= outputs(child, own)
    return found


def _one_layer(module: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Returns the first layer's parameters, of those that a scan has stacked."""
    specs = flatten_paths(module.parameter_specs()) if hasattr(module, "parameter_specs") else {}

    def first(path: Any, x: jax.Array) -> jax.Array:
        spec = specs[jax.tree_util.keystr(path, simple=True, separator="/")]
        while x.ndim > len(spec.shape):
            x = x[0]
        return x

    own: dict[str, Any] = jax.tree_util.tree_map_with_path(first, state)
    return own


def _example(module: Module) -> tuple[Any, ...] | None:
    """Returns inputs for a module, the same for all at a path; None for other kinds."""
    rng = np.random.default_rng(zlib.crc32(module.path.encode()))
    if isinstance(module, Embedding):
        return (rng.integers(module.config.vocab_size, size=(BATCH, SEQ)),)
    if not isinstance(module, (Norm, FeedForward, Projection, QKVProjection, SequenceLayer)):
        return None
    dims: Any = module.config.input_dim
    x = jax.numpy.asarray(
        rng.normal(size=(BATCH, SEQ, *(dims if isinstance(dims, tuple) else (dims,)))), np.float32
    )
    if isinstance(module, QKVProjection):
        return x, None
    return (x, SequenceInfo()) if isinstance(module, SequenceLayer) else (x,)


def number_findings(
    feature: Feature, before: Built, after: Built, old: Numbers, new: Numbers
) -> list[str]:
    """What the feature does not concern starts and computes as before, to the bit."""
    same = [
        path
        for path, spec in before.specs.items()
        if path in after.specs and same_spec(spec, after.specs[path])
    ]
    found = [
        f"numbers: {path} starts otherwise"
        for path in same
        if not np.array_equal(old.start[path], new.start[path])
    ]
    compared = 0
    for module, _ in untouched(feature, before.trainer.model, after.trainer.model):
        for path in old.outputs:
            if path == module.path or path.startswith(f"{module.path}."):
                compared += 1
                if not all(map(np.array_equal, old.outputs[path], new.outputs[path])):
                    found.append(f"numbers: {path} computes otherwise")
    if not same or not compared:
        found.append("numbers: nothing was left to compare")
    return found + _loss_findings(feature, old.loss, new)


def _loss_findings(feature: Feature, old: float, new: Numbers) -> list[str]:
    if not new.finite:
        return [f"numbers: the step was not finite, loss {new.loss}"]
    if feature.loss is None:
        return ["numbers: the loss is the same, so the feature does nothing"] * (new.loss == old)
    if abs(new.loss - old) > feature.loss * abs(old):
        return [f"numbers: the loss is {new.loss!r}, without the feature {old!r}"]
    return []
