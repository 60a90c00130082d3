"""Parameter blocks: a stack of layers holds one per layer, and optimizers treat each by itself.

What looks at a whole parameter (a factored moment, the size of an update) thus does the same
whether layers are scanned or not.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from axlearn_core.module.parameters import ParameterSpec, ParameterSpecs, flatten_paths
from axlearn_learners.partition import partition, paths_by_label

STACKED = "layers"  # the logical axis over which scanned layers are stacked


def stacked_dims(spec: ParameterSpec) -> int:
    """Counts the leading dimensions over which layers are stacked."""
    return next((i for i, name in enumerate(spec.axes) if name != STACKED), len(spec.axes))


def block_dims(spec: ParameterSpec) -> tuple[int, ...]:
    """Returns the dimensions of one layer's parameter."""
    return tuple(range(stacked_dims(spec), len(spec.shape)))


def per_layer(
    transformation: optax.GradientTransformation, specs: ParameterSpecs
) -> optax.GradientTransformationExtraArgs:
    """Applies a transformation to each layer of a stack by itself.

    Its state is `{"single": state, "stacked_32": state, ...}`, by the number of layers.
    """

    def label(path: str, spec: ParameterSpec) -> str:
        layers = spec.shape[: stacked_dims(spec)]
        return f"stacked_{'x'.join(map(str, layers))}" if layers else "single"

    paths = paths_by_label(label, specs)
    flat = flatten_paths(specs)
    depths = {name: stacked_dims(flat[next(iter(own))]) for name, own in paths.items()}
    return partition({name: _mapped(transformation, n) for name, n in depths.items()}, paths)


def _mapped(transformation: optax.GradientTransformation, depth: int) -> Any:
    """Maps a transformation over the leading dimensions of everything."""
    inner = optax.with_extra_args_support(transformation)
    init = inner.init
    for _ in range(depth):
        init = jax.vmap(init)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        def one(updates: Any, state: Any, params: Any) -> Any:
            return inner.update(updates, state, params, **extra)

        for _ in range(depth):
            one = jax.vmap(one)
        changed: tuple[Any, Any] = one(updates, state, params)
        return changed

    return optax.GradientTransformationExtraArgs(init, update)
