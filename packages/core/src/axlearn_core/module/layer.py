"""Layer: a module with parameters."""

from __future__ import annotations

from typing import Any

import jax

from axlearn_core.module.context import Tree, fold_in_name
from axlearn_core.module.module import Module, no_context
from axlearn_core.module.parameters import ParameterSpec, ParameterSpecs


class Layer(Module):
    """A module that declares parameters.

    A layer overrides `own_parameters`. One that stacks or shares its children's parameters
    overrides `parameter_specs` and `initialize` too, as `Repeat` does.
    """

    class Config(Module.Config):
        dtype: str = "float32"  # of the stored parameters; computation follows the inputs' dtype

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        """Returns the parameters that this layer itself reads with `self.param`."""
        return {}

    @no_context
    def parameter_specs(self) -> ParameterSpecs:
        """Returns the declarations of all parameters below this layer, nested by name."""
        specs: dict[str, Any] = dict(self.own_parameters())
        for name, child in self.children.items():
            if name in specs:
                raise ValueError(f"{self.path} has both a parameter and a child called {name!r}")
            if isinstance(child, Layer) and (below := child.parameter_specs()):
                specs[name] = below
        return specs

    @no_context
    def initialize(self, key: jax.Array) -> Tree:
        """Creates all parameters. Each draws from a key of its own name, so that adding a sibling
        changes nobody's numbers. `jax.eval_shape` of this method costs no memory."""
        state: Tree = {
            name: spec.initializer(fold_in_name(key, name), spec)
            for name, spec in self.own_parameters().items()
        }
        for name, child in self.children.items():
            if isinstance(child, Layer) and (below := child.initialize(fold_in_name(key, name))):
                state[name] = below
        return state
