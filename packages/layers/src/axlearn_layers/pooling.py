"""One vector for a sequence of vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.module import Layer


class Pooling(Layer):
    """Reduces the vectors of each sequence to one."""

    def forward(self, x: jax.Array, member: jax.Array) -> jax.Array:
        """Pools some tokens of each row.

        Args:
            x: [batch, seq, dim].
            member: [batch, sequences, seq] bool, which tokens of the row belong to a sequence.

        Returns:
            [batch, sequences, dim]; 0 for a sequence without tokens.
        """
        raise NotImplementedError(type(self))


class FirstToken(Pooling):
    """The vector of the first token, BERT's [CLS] (arXiv:1810.04805)."""

    def forward(self, x: jax.Array, member: jax.Array) -> jax.Array:
        return _pool(x, member & (jnp.cumsum(member, axis=-1) == 1))


class LastToken(Pooling):
    """The vector of the last token, the only one that has seen all others in a causal model."""

    def forward(self, x: jax.Array, member: jax.Array) -> jax.Array:
        from_behind = jnp.cumsum(member[..., ::-1], axis=-1)[..., ::-1]
        return _pool(x, member & (from_behind == 1))


class MeanPooling(Pooling):
    """The mean of all tokens' vectors (arXiv:1908.10084)."""

    def forward(self, x: jax.Array, member: jax.Array) -> jax.Array:
        count = jnp.maximum(member.sum(axis=-1, keepdims=True), 1)
        return (_pool(x, member).astype(jnp.float32) / count).astype(x.dtype)


def _pool(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Adds up the vectors with a weight of True, in float32."""
    total = jnp.einsum(
        "bsd,bns->bnd", x, weights.astype(x.dtype), preferred_element_type=jnp.float32
    )
    return total.astype(x.dtype)
