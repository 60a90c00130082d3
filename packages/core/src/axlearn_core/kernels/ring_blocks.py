"""Some queries and some keys: what they add to a softmax over all keys, and to its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from axlearn_core.kernels.attention import AttentionSpec
from axlearn_core.kernels.masks import BlockKind

# Keys whose scores exist at one time, for all queries of a block.
_KEYS = 512
# Below any score, yet finite: rows that have seen nothing have finite differences.
_LOWEST = -1e30

Carry = TypeVar("Carry")


class Sums(NamedTuple):
    """Softmax so far, of each query; see `add`. All float32."""

    highest: jax.Array  # [batch, kv, group, query], m = max_k s_k
    total: jax.Array  # [batch, kv, group, query], sum_k exp(s_k - m)
    output: jax.Array  # [batch, kv, group, query, value_dim], sum_k exp(s_k - m) v_k

    @classmethod
    def of_nothing(cls, query: jax.Array, value_dim: int) -> Sums:
        rows = query.shape[:-1]
        return cls(
            jnp.full(rows, _LOWEST, jnp.float32),
            jnp.zeros(rows, jnp.float32),
            jnp.zeros((*rows, value_dim), jnp.float32),
        )

    @property
    def mean(self) -> jax.Array:
        """sum_k p_k v_k, and zeros for a query that may attend to nothing."""
        return self.output / jnp.where(self.total == 0, 1.0, self.total)[..., None]

    @property
    def log_total(self) -> jax.Array:
        """log sum_k exp(s_k), with which weights are made again: p_k = exp(s_k - log_total)."""
        return self.highest + jnp.log(jnp.where(self.total == 0, 1.0, self.total))


class Keys(NamedTuple):
    """Keys and values, and where they stand."""

    key: jax.Array  # [batch, kv, key, head_dim]
    value: jax.Array  # [batch, kv, key, value_dim]
    positions: jax.Array  # [key]
    segments: jax.Array | None  # [batch, key]


class Queries(NamedTuple):
    """Queries, and where they stand."""

    query: jax.Array  # [batch, kv, group, query, head_dim], scaled
    positions: jax.Array  # [query]
    segments: jax.Array | None  # [batch, query]


class Given(NamedTuple):
    """What the backward pass knows of some queries, after the whole softmax."""

    log_total: jax.Array  # [batch, kv, group, query] float32
    gradient: jax.Array  # [batch, kv, group, query, value_dim], of the output
    along: jax.Array  # [batch, kv, group, query] float32, sum_d gradient_d output_d

    @classmethod
    def of(cls, log_total: jax.Array, gradient: jax.Array, output: jax.Array) -> Given:
        along = jnp.sum(gradient.astype(jnp.float32) * output.astype(jnp.float32), axis=-1)
        return cls(log_total, gradient, along)


class Gradients(NamedTuple):
    """Of query, key and value, of their shapes; float32."""

    query: jax.Array
    key: jax.Array
    value: jax.Array


def add(spec: AttentionSpec, queries: Queries, keys: Keys, kind: BlockKind, sums: Sums) -> Sums:
    """Adds keys to a softmax, which may come in any order (arXiv:2205.14135, section 3.1).

    m' = max(m, max_k s_k); what was summed is multiplied by exp(m - m').
    """

    def step(sums: Sums, keys: Keys) -> tuple[Sums, None]:
        scores = _Scores.of(spec, queries, keys, kind)
        highest = jnp.maximum(sums.highest, scores.values.max(axis=-1))
        weights = scores.weights(highest)
        fade = jnp.exp(sums.highest - highest)
        read = _product("bngqk,bnkd->bngqd", weights.astype(keys.value.dtype), keys.value)
        return Sums(
            highest,
            sums.total * fade + weights.sum(axis=-1),
            sums.output * fade[..., None] + read,
        ), None

    return _over_keys(step, sums, keys)[0]


def add_gradients(
    spec: AttentionSpec,
    queries: Queries,
    keys: Keys,
    given: Given,
    kind: BlockKind,
    gradients: Gradients,
) -> Gradients:
    """Adds what some queries and keys contribute to the gradients.

    With weights p, the output o and its gradient g (arXiv:2205.14135, appendix B.4):
    dv = p^T g, ds = p * (g v^T - sum_d g_d o_d), dq = ds k, dk = ds^T q.
    """
    dtype = keys.key.dtype

    def step(of_query: jax.Array, keys: Keys) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        scores = _Scores.of(spec, queries, keys, kind)
        weights = scores.weights(given.log_total)
        of_value = _product("bngqk,bngqd->bnkd", weights.astype(dtype), given.gradient)
        of_weights = _product("bngqd,bnkd->bngqk", given.gradient, keys.value)
        of_scores = weights * (of_weights - given.along[..., None])
        if spec.logit_cap is not None:
            of_scores *= 1 - (scores.capped / spec.logit_cap) ** 2  # tanh' = 1 - tanh^2
        of_scores = of_scores.astype(dtype)
        of_query += _product("bngqk,bnkd->bngqd", of_scores, keys.key)
        return of_query, (_product("bngqk,bngqd->bnkd", of_scores, queries.query), of_value)

    of_query, (of_key, of_value) = _over_keys(step, gradients.query, keys)
    return Gradients(of_query, gradients.key + _join(of_key), gradients.value + _join(of_value))


class _Scores(NamedTuple):
    """[batch, kv, group, query, key] float32."""

    capped: jax.Array
    values: jax.Array  # the lowest where the mask forbids
    allowed: Any | None  # booleans that broadcast to the scores; None is everything

    @classmethod
    def of(cls, spec: AttentionSpec, queries: Queries, keys: Keys, kind: BlockKind) -> _Scores:
        capped = _product("bngqd,bnkd->bngqk", queries.query, keys.key)
        if spec.logit_cap is not None:
            capped = spec.logit_cap * jnp.tanh(capped / spec.logit_cap)
        if kind is BlockKind.FULL:
            return cls(capped, capped, None)
        allowed = spec.mask.evaluate(
            queries.positions, keys.positions, queries.segments, keys.segments
        )
        if allowed.ndim == 3:
            allowed = allowed[:, None, None]  # every head alike
        return cls(capped, jnp.where(allowed, capped, _LOWEST), allowed)

    def weights(self, reference: jax.Array) -> jax.Array:
        """exp(s - reference), zero where the mask forbids."""
        weights = jnp.exp(self.values - reference[..., None])
        return weights if self.allowed is None else jnp.where(self.allowed, weights, 0.0)


def _product(formula: str, a: jax.Array, b: jax.Array) -> jax.Array:
    product: jax.Array = jnp.einsum(formula, a, b, preferred_element_type=jnp.float32)
    return product


def _over_keys(
    step: Callable[[Carry, Keys], tuple[Carry, Any]], carry: Carry, keys: Keys
) -> tuple[Carry, Any]:
    """Scans `step` over equal pieces of the keys; what it returns of each is stacked."""
    count = keys.key.shape[2]
    pieces = next(n for n in range(-(-count // _KEYS), count + 1) if count % n == 0)

    def cut(x: jax.Array, axis: int) -> jax.Array:
        shape = (*x.shape[:axis], pieces, count // pieces, *x.shape[axis + 1 :])
        return jnp.moveaxis(x.reshape(shape), axis, 0)

    if pieces == 1:
        carry, output = step(carry, keys)
        return carry, jax.tree.map(lambda x: x[None], output)
    key, value, positions, segments = keys
    cut_keys = Keys(
        cut(key, 2),
        cut(value, 2),
        cut(positions, 0),
        None if segments is None else cut(segments, 1),
    )
    return jax.lax.scan(step, carry, cut_keys)


def _join(x: jax.Array) -> jax.Array:
    """[pieces, batch, kv, key / pieces, dim] -> [batch, kv, key, dim]."""
    return jnp.moveaxis(x, 0, 2).reshape(*x.shape[1:3], -1, x.shape[-1])
