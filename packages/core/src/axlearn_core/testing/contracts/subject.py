"""An example of a layer: parameters, inputs and results, made once and shared by its tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.config import ConfigBase
from axlearn_core.module import ParameterSpecs, functional
from axlearn_core.module.context import OutputCollection, Tree
from axlearn_core.testing.contracts.host import COPIES, Host
from axlearn_core.training.state import merge_trees, split_trainable

KEY = jax.random.key(0, impl="unsafe_rbg")  # compiles in half the time of threefry

# A test runs what it compiles once, so that slow code is done sooner than fast code.
_QUICK_TO_COMPILE: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if jax.__version_info__ < (0, 11):  # later ones know no other way to make fusions
    _QUICK_TO_COMPILE["xla_cpu_use_fusion_emitters"] = False

compiled = partial(jax.jit, compiler_options=_QUICK_TO_COMPILE)

Result = tuple[Any, OutputCollection]
"""Outputs and side outputs of a call."""


class Subject:
    """A component below a host, with all that its tests compare with."""

    def __init__(
        self,
        component: ConfigBase,
        call: Callable[..., Any],
        inputs: Callable[[np.random.Generator], tuple[Any, ...]],
    ):
        self.rng = np.random.default_rng(0)
        self.inputs: tuple[Any, ...] = jax.tree.map(jnp.asarray, inputs(self.rng))
        self.build = partial(Host.default_config().instantiate, component=component, call=call)
        self.host: Host = self.build()
        self.beside: Host = self.build(sibling=True)
        self.specs: ParameterSpecs = self.host.parameter_specs()

    @cached_property
    def initialized(self) -> tuple[Tree, Tree]:
        """Parameters as they start, and as they start beside a sibling."""
        hosts = (self.host, self.beside)
        run = compiled(lambda key: tuple(host.initialize(key) for host in hosts))
        states: tuple[Tree, Tree] = run(KEY)
        return states

    @cached_property
    def copies(self) -> list[Tree]:
        """Parameters as they may be later on: what starts at 0 would hide mistakes."""

        def moved(x: jax.Array) -> Any:
            noise = self.rng.normal(size=x.shape)
            return jnp.asarray(x + 0.1 * noise, x.dtype) if is_float(x) else x

        return [jax.tree.map(moved, self.initialized[0]) for _ in range(COPIES)]

    @property
    def state(self) -> Tree:
        return self.copies[0]

    def run(self, method: str, state: Tree, inputs: tuple[Any, ...]) -> Result:
        """Evaluates."""
        return functional(self.host, state=state, prng_key=None, inputs=inputs, method=method)

    @cached_property
    def results(self) -> list[Result]:
        """Of each copy, compiled."""
        run = compiled(partial(self.run, "plain"))
        return [run(state, self.inputs) for state in self.copies]

    def train(self, host: Host, method: str, state: Tree, inputs: tuple[Any, ...]) -> Result:
        """Runs as training does."""
        return functional(
            host, state=state, prng_key=KEY, inputs=inputs, method=method, is_training=True
        )

    def differentiate(self, method: str) -> tuple[Result, Tree, list[jax.Array]]:
        """Returns results, and gradients by the trainable parameters and by all float inputs.

        Differentiated is the sum of all outputs and auxiliary losses, each number times a random
        one, so that nothing cancels.
        """
        params, rest = split_trainable(self.state, self.specs)
        structure: Any
        leaves, structure = jax.tree.flatten(self.inputs)
        floats = [leaf for leaf in leaves if is_float(leaf)]

        def objective(params: Tree, floats: list[Any]) -> tuple[jax.Array, Result]:
            remaining = iter(floats)
            inputs = structure.unflatten(
                [next(remaining) if is_float(leaf) else leaf for leaf in leaves]
            )
            state = merge_trees(params, rest)
            outputs, side = self.train(self.host, method, state, inputs)
            terms = [
                jnp.vdot(np.random.default_rng(1).normal(size=x.shape), x.astype(jnp.float32))
                for x in jax.tree.leaves((outputs, side.losses))
                if is_float(x)
            ]
            return jnp.sum(jnp.stack(terms)), (outputs, side)

        step = compiled(jax.value_and_grad(objective, argnums=(0, 1), has_aux=True))
        (_, result), gradients = step(params, floats)
        return result, *gradients

    @cached_property
    def differentiated(self) -> tuple[Result, Tree, list[jax.Array]]:
        return self.differentiate("plain")


def is_float(x: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))
