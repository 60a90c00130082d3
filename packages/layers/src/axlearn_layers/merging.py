"""Adapters that become a part of the weights they change, and the way back."""

from __future__ import annotations

from collections.abc import Callable

import jax

from axlearn_core.module import Module, functional
from axlearn_core.module.context import Tree
from axlearn_layers.adapter import Adapter


def merge_adapters(module: Module, state: Tree, *, index: int | None = None) -> Tree:
    """Returns the parameters of the same model without adapters that computes the same.

    Args:
        module: with adapters anywhere below it, also around others and below a `Repeat`.
        state: its parameters, which stay as they are.
        index: of the adapter to merge in each `MultiLoRA`; others have one, and need none.
    """
    if not isinstance(module, Adapter):
        return {
            name: merge_adapters(module.children[name], value, index=index)
            if name in module.children
            else value
            for name, value in state.items()
        }
    base = merge_adapters(module.inner, state["inner"], index=index)
    return _with_changed_weight(module, module.merged, base, state, index)


def unmerge_adapters(
    module: Module, merged: Tree, adapters: Tree, *, index: int | None = None
) -> Tree:
    """Undoes `merge_adapters`, up to rounding; see each adapter's `unmerged`.

    Args:
        module: with adapters anywhere below it.
        merged: what `merge_adapters` returned.
        adapters: holds the adapters that were merged, such as all parameters before, or the
            trainable ones.
        index: as it was merged.
    """
    if not isinstance(module, Adapter):
        return {
            name: unmerge_adapters(
                module.children[name], value, adapters.get(name, {}), index=index
            )
            if name in module.children
            else value
            for name, value in merged.items()
        }
    base = _with_changed_weight(module, module.unmerged, merged, adapters, index)
    inner = unmerge_adapters(module.inner, base, adapters.get("inner", {}), index=index)
    return {**_own(module, adapters), "inner": inner}


def _with_changed_weight(
    adapter: Adapter,
    change: Callable[[jax.Array, Tree, int | None], jax.Array],
    base: Tree,
    state: Tree,
    index: int | None,
) -> Tree:
    """Changes the weight of the innermost projection, whose parameters `base` holds."""
    innermost = adapter.inner
    while isinstance(innermost, Adapter):
        innermost = innermost.inner
    weight, _ = functional(innermost, state=base, prng_key=None, inputs=(), method="weight")

    def one(weight: jax.Array, own: Tree) -> jax.Array:
        return change(weight, own, index)

    own = _own(adapter, state)
    for _ in range(own["a"].ndim - len(adapter.own_parameters()["a"].shape)):
        one = jax.vmap(one)  # over stacked layers
    return innermost.with_weight(base, one(weight, own))


def _own(adapter: Adapter, state: Tree) -> Tree:
    return {name: state[name] for name in adapter.own_parameters()}
