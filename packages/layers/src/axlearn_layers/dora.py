"""DoRA."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.module import ParameterSpec, no_context, zeros
from axlearn_core.module.context import Tree
from axlearn_layers.adapter import Adapter, low_rank, low_rank_product
from axlearn_layers.linear import as_tuple


class DoRA(Adapter):
    """y = x (m V / ||V||) + b with V = W + D, D = alpha / rank * A B (arXiv:2402.09353).

    W and b are those of `inner`. ||V|| is the norm over the inputs, one number for each output,
    and gets no gradient (section 4.3).

    The paper trains m from ||W|| on. Here m = ||W|| (1 + magnitude), and `magnitude` starts at 0,
    so that it needs no W to start from and may be narrow. W being frozen, the functions and the
    start are the paper's; a step of Adam is relative, lr * ||W|| of the paper's m. The m of other
    implementations is imported as m / ||W|| - 1. An output whose W is 0 stays 0.

    The norm costs rank + 2 products per weight and step, and one array of the weight's size.
    """

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        magnitude = ParameterSpec(
            as_tuple(cfg.output_dim),
            as_tuple(cfg.output_axes),
            zeros,
            cfg.dtype,
            weight_decay_scale=0.0,
        )
        return {**self.low_rank_parameters(), "magnitude": magnitude}

    def forward(self, x: jax.Array) -> jax.Array:
        y = self.inner.forward(x)
        bias = self.inner.bias()
        a, b = self.param("a"), self.param("b")
        ratio = self._norm_ratio(self.inner.weight(), self.scale * low_rank_product(a, b))
        gain = _relative(self.param("magnitude")) * jax.lax.stop_gradient(ratio)
        product = y if bias is None else y - bias.astype(x.dtype)
        change = self.scale * low_rank(x, a, b)
        # The small part of the gain by itself, which a narrow dtype would round away.
        return y + (gain - 1).astype(x.dtype) * product + gain.astype(x.dtype) * change

    @no_context
    def merged(self, weight: jax.Array, own: Tree, index: int | None) -> jax.Array:
        change = self.scale * low_rank_product(own["a"], own["b"])
        gain = _relative(own["magnitude"]) * self._norm_ratio(weight, change)
        return gain * (weight + change)

    @no_context
    def unmerged(self, merged: jax.Array, own: Tree, index: int | None) -> jax.Array:
        """Exact up to rounding, for each output whose ||D|| is less than ||W||; NaN for others.

        The merged weight knows ||W|| = ||merged|| / |1 + magnitude|, and the direction of V. So
        W = c U - D, where U = merged / (1 + magnitude), and ||W|| = ||U|| is a quadratic
        equation for c. It has one positive solution if ||D|| < ||U||, and may have two otherwise.
        """
        change = self.scale * low_rank_product(own["a"], own["b"])
        unit = merged.astype(jnp.float32) / _relative(own["magnitude"])
        squared, overlap = self._over_inputs(unit * unit), self._over_inputs(unit * change)
        room = squared - self._over_inputs(change * change)
        root = jnp.sqrt(jnp.where(room < 0, jnp.nan, overlap**2 + squared * room))
        return (overlap + root) / jnp.maximum(squared, _TINY) * unit - change

    def _norm_ratio(self, weight: jax.Array, change: jax.Array) -> jax.Array:
        """||W|| / ||W + D||, [*output_dim]; written so that it is exactly 1 where D is 0."""
        weight = weight.astype(jnp.float32)
        added = self._over_inputs(change * (2 * weight + change))
        return 1 / jnp.sqrt(1 + added / jnp.maximum(self._over_inputs(weight * weight), _TINY))

    def _over_inputs(self, x: jax.Array) -> jax.Array:
        return x.sum(axis=tuple(range(len(as_tuple(self.config.input_dim)))))


def _relative(magnitude: jax.Array) -> jax.Array:
    """m / ||W||."""
    return 1 + magnitude.astype(jnp.float32)


_TINY = 1e-30  # instead of the squared norm of a column of zeros
