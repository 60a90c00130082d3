"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError, near_names

Activation = Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": partial(jax.nn.gelu, approximate=False),  # x * Phi(x), arXiv:1606.08415
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),  # its approximation, GPT-2's "gelu_new"
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,  # x * sigmoid(x), "swish"
    "tanh": jnp.tanh,
}


def activation(name: str) -> Activation:
    """Returns the function of that name.

    Raises:
        ConfigError: listing the names, if there is none.
    """
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"there is no activation {name!r}.{near_names(name, ACTIVATIONS)} "
            f"Activations: {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]
