"""JAX transformations of layers: scan over depth, map over copies, rematerialisation by name.

Each keeps side outputs: what a layer adds inside a scan or map comes out with a leading axis, one
entry per layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp

from axlearn_core.module.context import (
    InvocationContext,
    OutputCollection,
    Tree,
    activate,
    capture,
    current_context,
    emit,
    fold_in_name,
)
from axlearn_core.module.layer import Layer
from axlearn_core.module.parameters import ParameterSpecs, map_specs

P = ParamSpec("P")
T = TypeVar("T")
Carry = TypeVar("Carry")


def stacked_specs(layer: Layer, count: int, axis: str = "layers") -> ParameterSpecs:
    """Returns the declarations of `count` copies of a layer, stacked along a new first axis."""
    return map_specs(lambda spec: spec.stacked(count, axis), layer.parameter_specs())


def stacked_initialize(layer: Layer, count: int, key: jax.Array) -> Tree:
    """Creates the parameters of `count` copies; copy i does not depend on how many there are."""
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(count))
    return jax.vmap(layer.initialize)(keys)


def scan_layers(
    layer: Layer,
    body: Callable[[Carry, Any], tuple[Carry, Any]],
    carry: Carry,
    xs: Any = None,
    *,
    count: int,
    state: Tree | None = None,
    indices: jax.Array | None = None,
) -> tuple[Carry, Any]:
    """Runs `body` once per copy of a child layer, as one compiled loop.

    Args:
        layer: a child of the calling module, whose parameters are stacked.
        body: `(carry, x) -> (carry, y)`; its calls of `layer` see the parameters of one copy.
        carry: what flows through the depth.
        xs: optional inputs with a leading axis of `count`, one slice per copy.
        count: how many copies there are.
        state: their stacked parameters; None is those of the call.
        indices: [count] int, the number of each, from which it derives its random key; None is 0,
            1, 2, ...

    Returns:
        The last carry, and the stacked ys.
    """
    context = current_context()
    before = context.fork()

    def step(carry: Carry, slices: tuple[Tree, jax.Array, Any]) -> tuple[Carry, Any]:
        state, index, x = slices
        with activate(_copy_context(before, layer, state, index)) as inner:
            carry, y = body(carry, x)
        context.calls.update(inner.calls)
        return carry, (y, inner.outputs)

    copies = context.state.get(layer.name, {}) if state is None else state
    slices = (copies, jnp.arange(count) if indices is None else indices, xs)
    carry, (ys, outputs) = jax.lax.scan(step, carry, slices, length=count)
    emit(outputs)
    return carry, ys


def vmap_layers(layer: Layer, body: Callable[[Any], T], xs: Any = None, *, count: int) -> T:
    """Runs `body(x)` for every copy of a child layer side by side; results are stacked."""
    context = current_context()
    before = context.fork()

    def one(state: Tree, index: jax.Array, x: Any) -> tuple[T, OutputCollection]:
        with activate(_copy_context(before, layer, state, index)) as inner:
            result = body(x)
        context.calls.update(inner.calls)
        return result, inner.outputs

    state = context.state.get(layer.name, {})
    results, outputs = jax.vmap(one)(state, jnp.arange(count), xs)
    emit(outputs)
    return results


def _copy_context(
    context: InvocationContext, layer: Layer, state: Tree, index: jax.Array
) -> InvocationContext:
    outer = context.key

    def key() -> jax.Array:
        assert outer is not None
        return jax.random.fold_in(fold_in_name(outer(), "#copy"), index)  # no child is called so

    return context.fork(
        state={**context.state, layer.name: state}, key=None if outer is None else key
    )


def remat(
    function: Callable[P, T], *, save: str | None = None, offload: str | None = None
) -> Callable[P, T]:
    """Recomputes the function's activations in the backward pass, except those kept by name.

    Args:
        function: calls modules of the current call.
        save: a regular expression over names given with `jax.ad_checkpoint.checkpoint_name`;
            activations whose whole name matches stay in device memory.
        offload: the same; matching activations wait in host memory (where the backend has it).
    """
    policy = _policy(save, offload)

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        result, outputs = jax.checkpoint(capture(function), policy=policy)(*args, **kwargs)
        emit(outputs)
        return cast(T, result)

    return run


def _policy(save: str | None, offload: str | None) -> Callable[..., Any]:
    def policy(primitive: Any, *args: Any, **params: Any) -> Any:
        name = params.get("name") if primitive.name == "name" else None
        if name is None:
            return False
        if save is not None and re.fullmatch(save, name):
            return True
        if offload is not None and re.fullmatch(offload, name):
            moves = jax.checkpoint_policies.save_and_offload_only_these_names(
                names_which_can_be_saved=[],
                names_which_can_be_offloaded=[name],
                offload_src="device",
                offload_dst="pinned_host",
            )
            return moves(primitive, *args, **params)
        return False

    return policy
