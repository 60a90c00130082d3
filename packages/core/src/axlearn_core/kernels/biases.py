"""What attention adds to its scores, as a symbol: a function of head and positions.

Like a mask, a bias stays a symbol until a kernel asks for the numbers of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp


class ScoreBias:
    """A function of head, query position and key position. Immutable, hashable.

    Registered with JAX as static, it may travel among the arguments of a transformed function.
    """

    def evaluate(
        self,
        query_positions: jax.Array,
        key_positions: jax.Array,
        parameters: jax.Array | None,
    ) -> jax.Array:
        """Returns [(batch,) query_heads, query, key] float32.

        Args:
            query_positions: [query] or [batch, query] int.
            key_positions: [key] or [batch, key] int.
            parameters: What the layer learns of it, None if it learns nothing.
        """
        raise NotImplementedError(type(self))

    def by_head(self, parameters: jax.Array | None) -> jax.Array | None:
        """Returns parameters of which row h is all that head h needs.

        Devices that split the heads `evaluate` the bias with the rows of theirs. None where there
        is no such array; every device then has all heads.
        """
        return parameters


@jax.tree_util.register_static
@dataclass(frozen=True)
class LinearBias(ScoreBias):
    """-slope_h * |query - key| (ALiBi, arXiv:2108.12409)."""

    slopes: tuple[float, ...]  # one per query head; `by_head` gives them as parameters

    def evaluate(
        self,
        query_positions: jax.Array,
        key_positions: jax.Array,
        parameters: jax.Array | None,
    ) -> jax.Array:
        distances = abs(_distances(query_positions, key_positions)).astype(jnp.float32)
        slopes = self.by_head(parameters)
        return -slopes[:, None, None] * distances[..., None, :, :]

    def by_head(self, parameters: jax.Array | None) -> jax.Array:
        return jnp.asarray(self.slopes, jnp.float32) if parameters is None else parameters


@jax.tree_util.register_static
@dataclass(frozen=True)
class BucketedBias(ScoreBias):
    """parameters[h, bucket(key - query)], parameters being [query_heads, num_buckets] (T5).

    The first half of the buckets are single distances, the others grow as their logarithm up to
    `max_distance`, beyond which all is one bucket (arXiv:1910.10683, section 2.1). If both
    directions count, keys behind the query have the first half of all buckets, keys ahead the
    second; if not, keys ahead are in bucket 0.
    """

    num_buckets: int
    max_distance: int
    both_directions: bool

    def evaluate(
        self,
        query_positions: jax.Array,
        key_positions: jax.Array,
        parameters: jax.Array | None,
    ) -> jax.Array:
        assert parameters is not None
        buckets = self.bucket(_distances(query_positions, key_positions))
        biases = jnp.take(parameters.astype(jnp.float32), buckets, axis=1)  # [heads, (batch,) q, k]
        return jnp.moveaxis(biases, 0, -3)

    def bucket(self, distances: jax.Array) -> jax.Array:
        """Returns the bucket of each distance key - query, the same shape, int32."""
        count, first = self.num_buckets, jnp.zeros_like(distances)
        if self.both_directions:
            count //= 2
            first, distances = jnp.where(distances > 0, count, 0), abs(distances)
        else:
            distances = jnp.maximum(-distances, 0)
        exact = count // 2
        growth = jnp.log(jnp.maximum(distances, 1) / exact) / math.log(self.max_distance / exact)
        far = exact + (growth * (count - exact)).astype(jnp.int32)
        return first + jnp.where(distances < exact, distances, jnp.minimum(far, count - 1))


def _distances(query_positions: jax.Array, key_positions: jax.Array) -> jax.Array:
    return key_positions[..., None, :] - query_positions[..., :, None]
