"""Splash attention, the Pallas kernel for TPUs that comes with jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention

from axlearn_core.kernels import (
    AttentionInputs,
    AttentionSpec,
    BlockKind,
    Mask,
    attention_flops,
    full,
    split_segments,
)
from axlearn_core.kernels.masks import Grid
from axlearn_core.parallel import current_platform

# Sides of a block of scores: the largest that divides the lengths. Larger ones leave too little of
# a core's memory for the operands of the backward pass.
_BLOCKS = (512, 256, 128)

# Products as wide as keys and as values in each program, the scores that it makes again included.
_PRODUCTS: Final = {"fwd": (1, 1), "dq": (2, 1), "dkv": (2, 2)}


class SplashAttention:
    """Skips what the mask rules out, and makes it from positions where it is needed."""

    priority = 100

    def supports(self, spec: AttentionSpec) -> str | None:
        if not spec.positions_are_arange:
            return "positions are known only when running, so no block can be skipped"
        if spec.bias is not None:
            return f"adds no bias to the scores, and there is {spec.bias}"
        if split_segments(spec.mask) is None:
            return f"segments can only restrict the mask, as in x & same_segment, not {spec.mask}"
        if spec.may_leave_rows_empty:
            return "a query that may attend to nothing would not get zeros"
        for name, length in (("query", spec.query_length), ("key", spec.key_length)):
            if length % _BLOCKS[-1]:
                return f"{name}_length (={length}) must be a multiple of {_BLOCKS[-1]}"
        if spec.dtype not in ("bfloat16", "float32"):
            return f"multiplies bfloat16 or float32, not {spec.dtype}"
        return None

    def __call__(self, spec: AttentionSpec, inputs: AttentionInputs) -> jax.Array:
        split = split_segments(spec.mask)
        assert split is not None
        kernel = splash_attention.make_splash_mha(
            splash_attention.MultiHeadMask([_mask(split.positions, spec)] * spec.query_heads),
            block_sizes=_block_sizes(spec.query_length, spec.key_length),
            head_shards=1,
            q_seq_shards=1,
            attn_logits_soft_cap=spec.logit_cap,
            interpret=current_platform() != spec.platform,
        )
        segments = None
        if split.within_segments:
            assert inputs.query_segments is not None and inputs.key_segments is not None
            segments = splash_attention.SegmentIds(inputs.query_segments, inputs.key_segments)
        sinks = None if inputs.sinks is None else inputs.sinks.astype(jnp.float32)

        def row(*arrays: Any) -> jax.Array:
            output: jax.Array = kernel(*arrays, sinks)
            return output

        query, key, value = (x.swapaxes(1, 2) for x in inputs[:3])  # [batch, heads, length, dim]
        return jax.vmap(row)(query * spec.scale, key, value, segments).swapaxes(1, 2)

    def flops(self, spec: AttentionSpec, program: str) -> float:
        sizes = _block_sizes(spec.query_length, spec.key_length)
        of_keys, of_values = next(
            products for name, products in _PRODUCTS.items() if f"_{name}_" in program
        )
        block = sizes.block_q, sizes.block_kv
        return attention_flops(spec, of_keys=of_keys, of_values=of_values, block=block)


def _block_sizes(query_length: int, key_length: int) -> splash_attention.BlockSizes:
    query, key = (
        next(size for size in _BLOCKS if length % size == 0)
        for length in (query_length, key_length)
    )
    return splash_attention.BlockSizes(
        block_q=query,
        block_kv=key,
        block_q_dkv=query,
        block_kv_dkv=key,
        block_q_dq=query,
        block_kv_dq=key,
    )


def _mask(mask: Mask, spec: AttentionSpec) -> splash_attention.Mask:
    shape = (spec.query_length, spec.key_length)
    return splash_attention.FullMask(shape) if mask == full() else _ComputedMask(mask, shape)


@dataclass(frozen=True)
class _ComputedMask(splash_attention.Mask):
    """A mask of ours by splash attention's contract: asked for blocks, computed in the kernel."""

    mask: Mask
    lengths: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lengths

    @property
    def q_sequence(self) -> np.ndarray[Any, Any]:
        return np.arange(self.lengths[0], dtype=np.int32)

    def mask_function(self, query: Any, key: Any) -> Any:
        return self.mask.allows(Grid(query, key, None, None))

    def __getitem__(self, block: tuple[slice, slice]) -> np.ndarray[Any, Any]:
        queries, keys = (
            range(length)[part] for part, length in zip(block, self.lengths, strict=True)
        )
        kind = self.mask.block(queries, keys)
        if kind is not BlockKind.PARTIAL:
            return np.broadcast_to(kind is BlockKind.FULL, (len(queries), len(keys)))
        allowed: np.ndarray[Any, Any] = self.mask.evaluate(np.array(queries), np.array(keys))
        return allowed
