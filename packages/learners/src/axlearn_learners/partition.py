"""Different transformations for different parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import optax

from axlearn_core.module.parameters import ParameterSpecs, flatten_paths
from axlearn_core.training.state import merge_trees


def pick(tree: Mapping[str, Any], paths: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Returns the part of a nested dict whose leaves are at these paths ("decoder/weight")."""
    picked: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            if path in paths:
                picked[name] = value
        elif below := pick(value, paths, f"{path}/"):
            picked[name] = below
    return picked


def map_paths(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Applies a function to the path and the value of every leaf of a nested dict."""

    def one(path: Any, value: Any) -> Any:
        return function(jax.tree_util.keystr(path, simple=True, separator="/"), value)

    return jax.tree_util.tree_map_with_path(one, tree)


def paths_by_label(
    label: Callable[[str, Any], str], specs: ParameterSpecs
) -> dict[str, frozenset[str]]:
    """Returns the paths that a function of path and declaration gives the same label."""
    found: dict[str, set[str]] = {}
    for path, spec in flatten_paths(specs).items():
        found.setdefault(label(path, spec), set()).add(path)
    return {name: frozenset(paths) for name, paths in found.items()}


def partition(
    transformations: Mapping[str, optax.GradientTransformation],
    paths: Mapping[str, Collection[str]],
) -> optax.GradientTransformationExtraArgs:
    """Applies each transformation to the parameters at its paths, and to nothing else.

    Its state is `{label: state}`, in which other parameters leave no trace.
    """
    inner = {k: optax.with_extra_args_support(t) for k, t in transformations.items()}

    def init(params: Any) -> dict[str, Any]:
        return {label: t.init(pick(params, paths[label])) for label, t in inner.items()}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        changed: dict[str, Any] = {}
        after = {}
        for label, t in inner.items():
            own = pick(updates, paths[label])
            own_params = None if params is None else pick(params, paths[label])
            own, after[label] = t.update(own, state[label], own_params, **extra)
            changed = merge_trees(changed, own)
        return changed, after

    return optax.GradientTransformationExtraArgs(init, update)
