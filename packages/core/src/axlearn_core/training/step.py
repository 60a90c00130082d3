"""One training step and one evaluation step, as pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.guards.numbers import Numbers
from axlearn_core.module import (
    OutputCollection,
    ParameterSpec,
    ParameterSpecs,
    flatten_paths,
    functional,
)
from axlearn_core.parallel import exchanging, split_rows
from axlearn_core.training.learner import Learner
from axlearn_core.training.model import Batch, Loss, Model
from axlearn_core.training.state import TrainState, Tree, merge_trees

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Loss]


class Gradients(NamedTuple):
    """What a batch says about the parameters."""

    grads: Tree  # of the mean loss, like the trainable parameters
    module_state: Tree  # the next
    metrics: Metrics  # the loss, and what layers report


GradientFunction = Callable[[TrainState, Batch], Gradients]


def make_gradients(
    model: Model,
    *,
    accumulation: int = 1,
    compute_dtype: str | None = None,
    gradient_dtype: str | None = None,
    accumulation_dtype: str = "float32",
) -> GradientFunction:
    """Returns `gradients(state, batch)`, of the sum of losses by the sum of weights.

    Both sums are over all micro-batches, so `accumulation=N` gives the gradient of one batch.
    """

    specs = model.parameter_specs()

    def gradients(state: TrainState, batch: Batch) -> Gradients:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        weight = jnp.maximum(model.target_weight(batch), 1.0)

        def mean_loss(
            params: Tree, module_state: Tree, batch: Batch, key: jax.Array
        ) -> tuple[jax.Array, OutputCollection]:
            variables = merge_trees(cast_floats(params, specs, compute_dtype), module_state)
            loss, outputs = functional(
                model, state=variables, prng_key=key, inputs=(batch,), is_training=True
            )
            return loss.total / weight, outputs

        def gradient(*args: Any) -> tuple[tuple[jax.Array, OutputCollection], Tree]:
            with exchanging(gradient_dtype):
                result, grads = jax.value_and_grad(mean_loss, has_aux=True)(*args)
            return result, cast_floats(grads, specs, gradient_dtype)

        if accumulation == 1:
            (loss, outputs), grads = gradient(state.params, state.module_state, batch, key)
            module_state = _updated(state.module_state, outputs.state_updates)
            return Gradients(
                grads, module_state, {"loss": loss, **flatten_paths(outputs.summaries)}
            )

        def accumulate(
            carry: tuple[Tree, jax.Array, Tree], micro: tuple[Batch, jax.Array]
        ) -> tuple[tuple[Tree, jax.Array, Tree], Tree]:
            grads, loss, module_state = carry
            batch, index = micro
            micro_key = jax.random.fold_in(key, index)
            (more, outputs), added = gradient(state.params, module_state, batch, micro_key)
            grads = jax.tree.map(lambda total, part: total + part.astype(total.dtype), grads, added)
            module_state = _updated(module_state, outputs.state_updates)
            return (grads, loss + more, module_state), outputs.summaries

        zeros = cast_floats(jax.tree.map(jnp.zeros_like, state.params), specs, accumulation_dtype)
        micro_batches = {name: split_rows(x, accumulation) for name, x in batch.items()}
        (grads, loss, module_state), summaries = jax.lax.scan(
            accumulate,
            (zeros, jnp.zeros(()), state.module_state),
            (micro_batches, jnp.arange(accumulation)),
        )
        mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), summaries)
        return Gradients(grads, module_state, {"loss": loss, **flatten_paths(mean)})

    return gradients


def make_train_step(
    model: Model, learner: Learner, *, numbers: Numbers | None = None, **options: Any
) -> TrainStep:
    """Returns `step(state, batch) -> (state, metrics)`.

    If the loss or the gradient is not finite, or a spike to `numbers`, the parameters stay as they
    were and the state is marked as halted, unless the policy, or the learner, is to skip the step.

    Args:
        model: gives the loss.
        learner: gives the update.
        numbers: judges loss and gradient norm; by default they need but be finite.
        options: of `make_gradients`.
    """
    numbers = numbers or Numbers.default_config().instantiate()
    gradients = make_gradients(model, **options)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, module_state, metrics = gradients(state, batch)
        grads = jax.tree.map(lambda grad, param: grad.astype(param.dtype), grads, state.params)
        update = learner.update(grads, state.learner, state.params, state.step)
        metrics |= update.metrics
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(update.metrics["gradient_norm"])
        if "update_norm" in update.metrics:
            # Also makes the choice below come after all that reads the old state, which is what
            # XLA needs to know to write the new one in its place rather than copy it first.
            finite &= jnp.isfinite(update.metrics["update_norm"])
        skipped = update.metrics.get("skipped")
        if skipped is not None:
            finite |= skipped > 0
            module_state = _chosen(skipped > 0, state.module_state, module_state)
        good, seen = numbers.judge(
            state.seen, finite, metrics["loss"], update.metrics["gradient_norm"]
        )
        goes_on = good & ~state.halted
        changed = dataclasses.replace(
            state,
            step=state.step + 1,
            params=update.params,
            learner=update.opt_state,
            module_state=module_state,
        )
        metrics |= {"good": good, "target_tokens": model.target_weight(batch)}
        if numbers.skips:
            kept = _chosen(goes_on, changed, dataclasses.replace(state, step=state.step + 1))
            return dataclasses.replace(kept, seen=seen), metrics | numbers.metrics(seen)
        kept = _chosen(goes_on, changed, state)
        return dataclasses.replace(kept, halted=~goes_on, seen=seen), metrics

    return train_step


def make_eval_step(model: Model, learner: Learner, *, compute_dtype: str | None = None) -> EvalStep:
    """Returns `step(state, batch) -> Loss`, without randomness."""
    specs = model.parameter_specs()

    def eval_step(state: TrainState, batch: Batch) -> Loss:
        params = learner.evaluation_params(state.params, state.learner)
        variables = merge_trees(cast_floats(params, specs, compute_dtype), state.module_state)
        loss, _ = functional(model, state=variables, prng_key=None, inputs=(batch,))
        return Loss(*loss)

    return eval_step


def _chosen(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _updated(module_state: Tree, updates: Tree) -> Tree:
    if unknown := sorted(flatten_paths(updates).keys() - flatten_paths(module_state).keys()):
        raise ValueError(
            f"add_state_update({', '.join(unknown)}): only declared parameters with "
            "trainable=False can be updated this way"
        )
    return merge_trees(module_state, updates)


def cast_floats(tree: Mapping[str, Any], specs: ParameterSpecs, dtype: str | None) -> Tree:
    """Casts parameters to the dtype in which a model computes, but those that keep precision.

    Args:
        tree: all parameters, or some of them.
        specs: the declarations of at least these.
        dtype: None casts nothing.
    """

    def cast(x: jax.Array, spec: ParameterSpec) -> jax.Array:
        narrows = not spec.keeps_precision and jnp.issubdtype(x.dtype, jnp.floating)
        return x.astype(dtype) if narrows else x

    if dtype is None:
        return dict(tree)
    return {
        name: cast_floats(value, specs[name], dtype)
        if isinstance(value, Mapping)
        else cast(value, specs[name])
        for name, value in tree.items()
    }
