"""The contract of learners."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigBase
from axlearn_core.module import ParameterSpec, ParameterSpecs, flatten_paths, map_specs, ones
from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.testing.contracts.subject import compiled
from axlearn_core.testing.contracts.trees import assert_trees_close
from axlearn_core.training.learner import Learner, Params
from axlearn_core.training.model import Loss, Model
from axlearn_core.training.state import initial_state
from axlearn_core.training.step import make_train_step

STEPS = 300
SIZES = {"layers": 3, "embed": 6, "mlp": 4, "vocab": 5}


def _spec(*axes: str, **fields: Any) -> ParameterSpec:
    return ParameterSpec(tuple(SIZES[name] for name in axes), axes, ones, **fields)


WEIGHT = _spec("embed", "mlp")
SCALE = _spec("embed", weight_decay_scale=0.0)
STACK: ParameterSpecs = {"weight": WEIGHT.stacked(3, "layers"), "scale": SCALE.stacked(3, "layers")}
SPECS: ParameterSpecs = {
    "stack": STACK,
    "norm": {"scale": SCALE},
    "head": {"weight": WEIGHT},
    "table": {"weight": _spec("vocab", "embed")},
}
"""What the tests train: a stack of layers, a matrix, a table and a gain."""


class LearnerContract(ConfigContract):
    """A learner trains, whatever the parameters' dtypes, and its state is placed as they are."""

    # Of parameters, relative to the largest. float32 keeps 24 bits, 6e-8; only the order of
    # additions may differ between two ways to come to an update, of which there are a few.
    tolerance: ClassVar[float] = 1e-6

    def learner_config(self) -> Any:
        """Returns the config of the learner to test."""
        return self.config()

    def converging_config(self) -> Any:
        """Returns one that comes close to the lowest point of a quadratic loss in 300 steps."""
        return self.learner_config()

    def build(self, config: ConfigBase) -> Any:
        return config.instantiate(specs=SPECS)

    def learner(self, specs: ParameterSpecs = SPECS) -> Learner:
        return built(self.learner_config(), specs)

    def test_it_converges_on_a_quadratic(self) -> None:
        learner = built(self.converging_config())
        start, goal = draw(0), jax.tree.map(lambda x: x + 1, draw(1))

        def loss(params: Params) -> Any:
            errors = jax.tree.map(lambda p, g: jnp.sum((p - g) ** 2), params, goal)
            return sum(jax.tree.leaves(errors))

        @compiled
        def trained(params: Params) -> Params:
            def one(step: jax.Array, carry: tuple[Params, Any]) -> tuple[Params, Any]:
                made = learner.update(jax.grad(loss)(carry[0]), carry[1], carry[0], step)
                return made.params, made.opt_state

            params, state = jax.lax.fori_loop(0, STEPS, one, (params, learner.init(params)))
            return learner.evaluation_params(params, state)

        assert loss(trained(start)) < 0.01 * loss(start)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_parameters_and_state_keep_their_dtypes(self, dtype: str) -> None:
        specs = map_specs(lambda s: ParameterSpec(s.shape, s.axes, ones, dtype), SPECS)
        learner, params = self.learner(specs), map_specs(ParameterSpec.struct, specs)
        state = jax.eval_shape(learner.init, params)
        step = jax.ShapeDtypeStruct((), jnp.int32)
        made = jax.eval_shape(learner.update, params, state, params, step)
        assert (made.params, made.opt_state) == (params, state)
        assert made.metrics["gradient_norm"].shape == ()

    # State.

    def test_state_axes_name_the_dimensions_that_the_state_has(self) -> None:
        def named(leaf: Any, axes: tuple[str | None, ...]) -> None:
            sizes = [SIZES.get(str(axis), n) for axis, n in zip(axes, leaf.shape, strict=True)]
            assert tuple(sizes) == leaf.shape

        jax.tree.map(named, self.structs(), self.learner().state_axes())

    def test_state_shaped_like_a_parameter_is_placed_as_the_parameter(self) -> None:
        axes_of = {spec.shape: spec.axes for spec in flatten_paths(SPECS).values()}

        def follows(leaf: Any, axes: tuple[str | None, ...]) -> None:
            assert leaf.shape not in axes_of or axes == axes_of[leaf.shape]

        jax.tree.map(follows, self.structs(), self.learner().state_axes())

    def structs(self, specs: ParameterSpecs = SPECS) -> Any:
        """Returns shapes and dtypes of the state."""
        return jax.eval_shape(self.learner(specs).init, map_specs(ParameterSpec.struct, specs))

    # Steps.

    def test_a_stack_of_layers_is_trained_as_separate_layers_are(self) -> None:
        layers = range(SIZES["layers"])
        separate: ParameterSpecs = {f"layer{i}": {"weight": WEIGHT, "scale": SCALE} for i in layers}

        def split(stack: Params) -> Params:
            return {f"layer{i}": {name: x[i] for name, x in stack.items()} for i in layers}

        def gradients(seed: int) -> Params:
            """Of other sizes in each layer, so that one norm or mean over the stack would show."""
            sizes = np.array([1, 10, 100], np.float32)
            return {
                name: x * sizes.reshape(3, *[1] * (x.ndim - 1))
                for name, x in draw(seed, STACK).items()
            }

        together = [draw(0, STACK), *map(gradients, range(1, 6))]
        stacked = self.trained({"stack": STACK}, [{"stack": tree} for tree in together])
        apart = self.trained(separate, [split(tree) for tree in together])
        assert_trees_close(split(stacked["stack"]), apart, tolerance=self.tolerance)

    def trained(self, specs: ParameterSpecs, trees: list[Params]) -> Params:
        """Starts at the first of some trees, and makes an update with each of the others."""
        learner, (params, *gradients) = self.learner(specs), trees
        state, update = learner.init(params), compiled(learner.update)
        for step, gradient in enumerate(gradients):
            params, state, _ = update(gradient, state, params, step)
        result: Params = params
        return result

    def test_micro_batches_give_the_updates_of_one_batch(self) -> None:
        rng = np.random.default_rng(0)
        shapes = {"inputs": (8, 6), "targets": (8, 6), "target_weights": (8,)}
        batches = [
            {name: np.float32(np.abs(rng.standard_normal(s))) for name, s in shapes.items()}
            for _ in range(3)
        ]
        model: Model = Regression.default_config().instantiate(name="model")
        learner = self.learner(model.parameter_specs())
        start = initial_state(model, learner, 0)
        start.params = draw(0, model.parameter_specs())
        ends = []
        for accumulation in (1, 4):
            state, step = (
                start,
                compiled(make_train_step(model, learner, accumulation=accumulation)),
            )
            for batch in batches:
                state, _ = step(state, batch)
            ends.append(state.params)
        assert_trees_close(*ends, tolerance=self.tolerance)


class Regression(Model):
    """Predicts targets from inputs through two matrices; a row counts as often as its weight."""

    def own_parameters(self) -> dict[str, ParameterSpec]:
        return {"first": WEIGHT, "second": _spec("mlp", "embed")}

    def forward(self, batch: dict[str, jax.Array]) -> Loss:
        got = jnp.tanh(batch["inputs"] @ self.param("first")) @ self.param("second")
        errors = jnp.mean((got - batch["targets"]) ** 2, axis=-1)
        return Loss(jnp.sum(batch["target_weights"] * errors), self.target_weight(batch))


def built(config: Any, specs: ParameterSpecs = SPECS) -> Learner:
    """Builds a learner for a run of 300 steps."""
    learner: Learner = config.clone(total_steps=STEPS).instantiate(specs=specs)
    return learner


def draw(seed: int, specs: ParameterSpecs = SPECS) -> Params:
    """Returns random arrays as declared."""
    rng = np.random.default_rng(seed)
    drawn: Params = map_specs(lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype), specs)
    return drawn
