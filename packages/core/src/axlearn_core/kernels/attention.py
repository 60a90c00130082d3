"""The attention op: what a kernel needs to know, and the one function that layers call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax

from axlearn_core.errors import UserError
from axlearn_core.kernels.biases import ScoreBias
from axlearn_core.kernels.masks import Mask
from axlearn_core.kernels.selection import select
from axlearn_core.parallel import current_platform


@dataclass(frozen=True)
class AttentionSpec:
    """Everything static about one attention; kernels accept or refuse it before anything runs."""

    batch: int
    query_length: int
    key_length: int
    query_heads: int
    kv_heads: int
    head_dim: int  # of queries and keys
    value_dim: int
    dtype: str  # of queries, keys and values, such as "bfloat16"
    mask: Mask
    scale: float  # scores are multiplied by it
    logit_cap: float | None  # scores become cap * tanh(scores / cap), before the mask
    platform: str  # "cpu", "gpu" or "tpu"
    positions_are_arange: bool  # queries and keys both stand at 0, 1, 2, ...
    segments_are_shared: bool  # queries and keys have the same segments, or none
    bias: ScoreBias | None = None  # added to the capped scores
    has_sinks: bool = False  # each query head has a score for attending to nothing

    @property
    def group(self) -> int:
        """How many query heads share one key and value head."""
        return self.query_heads // self.kv_heads

    @property
    def may_leave_rows_empty(self) -> bool:
        """Whether some query might be allowed no key at all; its output is zeros."""
        has_itself = self.positions_are_arange and self.query_length <= self.key_length
        return not (has_itself and self.segments_are_shared and self.mask.includes_self)

    def __str__(self) -> str:
        heads = f"{self.query_heads}/{self.kv_heads} heads of {self.head_dim}"
        lengths = f"batch {self.batch}, {self.query_length} queries, {self.key_length} keys"
        extras = f", cap {self.logit_cap}" * (self.logit_cap is not None)
        extras += f", {self.bias}" * (self.bias is not None) + ", sinks" * self.has_sinks
        return f"attention({lengths}, {heads}, {self.dtype}, {self.mask}{extras}, {self.platform})"


class AttentionInputs(NamedTuple):
    """The arrays of one attention. Query head h uses key and value head h // group."""

    query: jax.Array  # [batch, query, query_heads, head_dim]
    key: jax.Array  # [batch, key, kv_heads, head_dim]
    value: jax.Array  # [batch, key, kv_heads, value_dim]
    query_positions: jax.Array | None  # [(batch,) query] int; None is 0, 1, 2, ...
    key_positions: jax.Array | None  # [(batch,) key] int; None is 0, 1, 2, ...
    query_segments: jax.Array | None  # [batch, query] int
    key_segments: jax.Array | None  # [batch, key] int
    bias_parameters: jax.Array | None = None  # what the spec's bias takes
    sinks: jax.Array | None = None  # [query_heads], scores


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    mask: Mask,
    scale: float | None = None,
    logit_cap: float | None = None,
    bias: ScoreBias | None = None,
    bias_parameters: jax.Array | None = None,
    sinks: jax.Array | None = None,
    query_positions: jax.Array | None = None,
    key_positions: jax.Array | None = None,
    query_segments: jax.Array | None = None,
    key_segments: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Computes `softmax(mask(cap(scale * query @ key^T) + bias)) @ value`, for grouped heads.

    Positions are places in the attended sequence, which is what masks compare. In training and
    prefill leave them out, packed documents included: kernels skip blocks only where they know
    the positions. A cache that is read one token at a time gives them.

    Args:
        query: [batch, query, query_heads, head_dim].
        key: [batch, key, kv_heads, head_dim]; kv_heads must divide query_heads.
        value: [batch, key, kv_heads, value_dim].
        mask: Which query may attend to which key, such as `causal() & same_segment()`.
        scale: Of the scores; None is `head_dim ** -0.5`.
        logit_cap: Soft cap of the scores (arXiv:2408.00118, section 2), None is none.
        bias: What is added to the scores by position, such as `LinearBias`.
        bias_parameters: The arrays of a bias that is learned.
        sinks: [query_heads], a score per head for attending to nothing: the weights of the keys
            sum to less than 1 (arXiv:2309.17453; learned scores as in gpt-oss, arXiv:2508.10925).
        query_positions: [query] or [batch, query] int, None is 0, 1, 2, ...
        key_positions: [key] or [batch, key] int, None is 0, 1, 2, ...
        query_segments: [batch, query] int, for masks with `same_segment()`.
        key_segments: [batch, key] int.
        implementation: A kernel's name to force it; None is the first that supports the case.

    Returns:
        [batch, query, query_heads, value_dim] of the values' dtype. A query that may attend to
        nothing gets zeros.

    Raises:
        UserError: if shapes do not fit, or no kernel (or not the forced one) supports the case.
    """
    _check_shapes(query, key, value)
    if mask.needs_segments and (query_segments is None or key_segments is None):
        raise UserError(
            f"attention mask '{mask}' compares segments, but query_segments or key_segments is "
            "None: give both, or leave same_segment() out of the mask"
        )
    spec = AttentionSpec(
        batch=query.shape[0],
        query_length=query.shape[1],
        key_length=key.shape[1],
        query_heads=query.shape[2],
        kv_heads=key.shape[2],
        head_dim=query.shape[3],
        value_dim=value.shape[3],
        dtype=value.dtype.name,
        mask=mask,
        scale=query.shape[3] ** -0.5 if scale is None else scale,
        logit_cap=logit_cap,
        platform=current_platform(),
        positions_are_arange=query_positions is None and key_positions is None,
        segments_are_shared=query_segments is key_segments,
        bias=bias,
        has_sinks=sinks is not None,
    )
    kernel = select("attention", spec, implementation)
    inputs = AttentionInputs(
        query,
        key,
        value,
        query_positions,
        key_positions,
        query_segments,
        key_segments,
        bias_parameters,
        sinks,
    )
    output: jax.Array = kernel(spec, inputs)
    return output


def _check_shapes(query: jax.Array, key: jax.Array, value: jax.Array) -> None:
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if not query.ndim == key.ndim == value.ndim == 4:
        raise UserError(f"attention takes [batch, length, heads, dim] arrays, got {shapes}")
    if not query.shape[0] == key.shape[0] == value.shape[0]:
        raise UserError(f"attention: batch sizes must be equal, got {shapes}")
    if key.shape[:3] != value.shape[:3] or query.shape[3] != key.shape[3]:
        raise UserError(
            "attention: key and value must agree in length and heads, query and key in head_dim, "
            f"got {shapes}"
        )
    if query.shape[2] % key.shape[2]:
        raise UserError(
            f"attention: kv heads (={key.shape[2]}) must divide query heads (={query.shape[2]})"
        )
