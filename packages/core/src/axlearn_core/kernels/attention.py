"""The attention op: what a kernel needs to know, and the one function that layers call."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.errors import UserError
from axlearn_core.kernels.biases import ScoreBias
from axlearn_core.kernels.masks import Mask
from axlearn_core.kernels.selection import is_kernel, select
from axlearn_core.parallel import (
    current_placement,
    current_platform,
    device_count,
    dividing_axes,
    per_device,
)


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


@dataclass(frozen=True)
class ContextAttentionSpec(AttentionSpec):
    """An attention whose sequence lies in equal parts on several devices, in their order.

    Kernels of the op "context_attention" are called on each of them with its part of all arrays
    that have the sequence. Batch and heads are those of the device, lengths those of the whole.
    """

    axes: tuple[str, ...] = ()  # the mesh axes that split the sequence
    devices: int = 1  # how many parts there are
    kernel: str | None = None  # the kernel of "attention" that was asked for by name

    def whole(self, **changes: Any) -> AttentionSpec:
        """Returns the spec of a kernel that gets the whole sequence."""
        same = {field.name: getattr(self, field.name) for field in fields(AttentionSpec)}
        return AttentionSpec(**{**same, **changes})

    def __str__(self) -> str:
        return f"{super().__str__()[:-1]}, sequence over {self.devices} devices)"


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
    placement = current_placement()
    if placement is None or placement.mesh.size == 1:
        return _compute(spec, inputs, implementation)
    return _split(spec, inputs, implementation)


def _compute(spec: AttentionSpec, inputs: AttentionInputs, implementation: str | None) -> jax.Array:
    if implementation is not None and is_kernel("context_attention", implementation):
        implementation = None  # it splits sequences, and here is a whole one
    output: jax.Array = select("attention", spec, implementation)(spec, inputs)
    return output


def _split(spec: AttentionSpec, inputs: AttentionInputs, implementation: str | None) -> jax.Array:
    """Computes each device's part of the attention, with the kernel that is best for a part.

    Batch and heads are split over as many mesh axes of their rules as divide them; devices along
    the others do the same work. Where there are fewer key and value heads than parts, they are
    repeated until each part has its own. The sequence is split too where its length divides;
    a cache, to which queries and keys have different places, is read whole.
    """
    if spec.bias is not None:
        inputs = inputs._replace(bias_parameters=spec.bias.by_head(inputs.bias_parameters))
    batch, heads, sequence = _mesh_axes(spec, inputs.bias_parameters)
    key, value = (repeat_heads(x, device_count(heads)) for x in (inputs.key, inputs.value))
    own = replace(
        spec,
        batch=spec.batch // device_count(batch),
        query_heads=spec.query_heads // device_count(heads),
        kv_heads=key.shape[2] // device_count(heads),
    )
    rules = {"batch": batch, "heads": heads, "seq": sequence}

    def compute(*arrays: jax.Array) -> jax.Array:
        part = AttentionInputs(*arrays)
        if not sequence:
            return _compute(own, part, implementation)
        return _compute_context(own, part, sequence, implementation)

    whole = inputs._replace(key=key, value=value)
    in_axes = _axes(whole, spec.batch)
    output: jax.Array = per_device(compute, in_axes, in_axes.query, rules=rules)(*whole)
    return output


def _mesh_axes(
    spec: AttentionSpec, bias_parameters: jax.Array | None
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Returns the mesh axes over which batch, heads and sequence are split."""
    batch = dividing_axes("batch", spec.batch)
    rows = None if bias_parameters is None else bias_parameters.shape[0]
    if spec.bias is not None and rows != spec.query_heads:
        return batch, (), ()  # nobody knows which part of it belongs to a part of the heads
    heads = dividing_axes("heads", spec.query_heads, taken=batch)
    if not spec.positions_are_arange and spec.query_length != spec.key_length:
        return batch, heads, ()
    length = math.gcd(spec.query_length, spec.key_length)
    return batch, heads, dividing_axes("seq", length, taken=(*batch, *heads))


def _compute_context(
    spec: AttentionSpec,
    inputs: AttentionInputs,
    axes: tuple[str, ...],
    implementation: str | None,
) -> jax.Array:
    kernel = None
    if implementation is not None and not is_kernel("context_attention", implementation):
        kernel, implementation = implementation, None
    context = ContextAttentionSpec(
        **vars(spec), axes=axes, devices=device_count(axes), kernel=kernel
    )
    output: jax.Array = select("context_attention", context, implementation)(context, inputs)
    return output


def repeat_heads(x: jax.Array, parts: int) -> jax.Array:
    """Repeats key or value heads, [batch, key, kv_heads, dim], so that `parts` divides them.

    Head h of n becomes the m/n heads from h * m/n on, m being the least common multiple of n and
    `parts`; if `parts` divides the query heads, so does m, and every group has its own head still.
    """
    times = math.lcm(x.shape[2], parts) // x.shape[2]
    return x if times == 1 else jnp.repeat(x, times, axis=2)


def _axes(inputs: AttentionInputs, batch: int) -> Any:
    """Returns the logical axes of all arrays, as AttentionInputs; None for those that are None."""

    def places(x: jax.Array | None) -> tuple[str | None, ...] | None:
        if x is None or x.ndim == 1:
            return x if x is None else ("seq",)
        return ("batch" if x.shape[0] == batch else None, "seq")  # one row may be that of all

    vectors = ("batch", "seq", "heads", None)
    return AttentionInputs._make(
        [vectors] * 3
        + [places(x) for x in inputs[3:7]]
        + [None if x is None else ("heads",) for x in inputs[7:]]
    )


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
