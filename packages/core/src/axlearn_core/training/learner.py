"""What the trainer needs of a learner."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigBase, Configurable
from axlearn_core.module.parameters import ParameterSpecs

Params = dict[str, Any]
"""Arrays, nested by module name: the trainable parameters or their gradients."""


class LearnerUpdate(NamedTuple):
    """What one step of learning gives."""

    params: Params  # as they came in, changed
    opt_state: Any  # as it came in, advanced
    metrics: dict[str, jax.Array]  # [] float32 each, by name; "gradient_norm" must be there, and a
    # "skipped" above 0 says that nothing was changed, so that training goes on even after NaN;
    # "update_norm", the distance between old and new parameters, lets the state stay in its place


class Learner(Configurable):
    """Turns gradients into new parameters.

    A learner knows the parameters' declarations from its construction,
    `cfg.learner.instantiate(specs=specs)`, and holds no arrays: the trainer keeps its state. It
    sees trainable parameters only.
    """

    trains: ClassVar[bool] = True  # False: of runs that are there to be read

    class Config(Configurable.Config):
        total_steps: int | None = None  # that schedules span; None: the trainer's max_step

    def __init__(self, config: ConfigBase, *, specs: ParameterSpecs) -> None:
        """Args: specs: the declarations of the trainable parameters, nested by module name."""
        super().__init__(config)
        self.specs = specs

    def init(self, params: Params) -> Any:
        """Returns the optimizer state before the first update, any tree of arrays."""
        raise NotImplementedError(type(self))

    def update(
        self, grads: Params, opt_state: Any, params: Params, step: jax.Array
    ) -> LearnerUpdate:
        """Makes one update.

        Args:
            grads: the gradient of the loss, shaped like `params`.
            opt_state: what `init` or the update before returned.
            params: the trainable parameters.
            step: how many updates came before, [] int32; 0 for the first.
        """
        raise NotImplementedError(type(self))

    def trained(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Returns what updates change of a tree like the parameters; the rest is frozen."""
        return tree

    def evaluation_params(self, params: Params, opt_state: Any) -> Params:
        """Returns the parameters to evaluate with: those that are trained, or a mean of them."""
        return params

    def state_axes(self) -> Any:
        """Returns the optimizer state's tree with the logical axes of each leaf in its place.

        The axes are a tuple with a name or None per dimension. What belongs to a parameter has the
        parameter's axes, and is thus placed where the parameter is; scalars have `()`.
        """
        raise NotImplementedError(type(self))


class Frozen(Learner):
    """Keeps the parameters as they are, without any state: of a model that came from elsewhere."""

    trains = False

    class Config(Learner.Config):
        """Nothing to choose."""

    def init(self, params: Params) -> tuple[()]:
        return ()

    def state_axes(self) -> tuple[()]:
        return ()

    def trained(self, tree: dict[str, Any]) -> dict[str, Any]:
        return {}

    def update(
        self, grads: Params, opt_state: tuple[()], params: Params, step: jax.Array
    ) -> LearnerUpdate:
        squares = [jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(grads)]
        norm = jnp.sqrt(jnp.sum(jnp.stack(squares)))
        return LearnerUpdate(params, opt_state, {"gradient_norm": norm})
