"""cuDNN's fused attention, through jax's own door to it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax

from axlearn_core.kernels import AttentionInputs, AttentionSpec, Mask, attention_flops, causal, full
from axlearn_core.kernels.masks import And, Window
from axlearn_core.parallel import current_platform

# Of queries, keys and values. Hopper takes 256, but jax asks the GPU of this process for that,
# which is another one where a program is compiled for a machine that is not here.
_MAX_HEAD_DIM = 128
_BLOCK = (128, 128)  # of scores; cuDNN does not say how large its are, flash attention's are so


class CudnnAttention:
    """Causal attention, with a window or without, and attention to every key."""

    priority = 100

    def supports(self, spec: AttentionSpec) -> str | None:
        if spec.dtype not in ("bfloat16", "float16"):
            return f"multiplies bfloat16 or float16, not {spec.dtype}"
        if not spec.positions_are_arange:
            return "takes no positions, and the mask compares those that are given"
        if spec.bias is not None:
            return f"would need {spec.bias} as an array [batch, heads, query, key]"
        if spec.logit_cap is not None:
            return "caps no scores"
        if spec.has_sinks:
            return "has no sinks"
        if spec.mask.needs_segments:
            return "would need same_segment as an array [batch, 1, query, key]"
        form = _form(spec.mask)
        if form is None:
            return f"knows causal, causal & window(n) and full, not {spec.mask}"
        if form.is_causal and spec.query_length != spec.key_length:
            return "takes a causal mask only for as many queries as keys"
        if spec.head_dim != spec.value_dim:
            return f"head_dim (={spec.head_dim}) must equal value_dim (={spec.value_dim})"
        if spec.head_dim % 8 or spec.head_dim > _MAX_HEAD_DIM:
            return f"head_dim (={spec.head_dim}) must be a multiple of 8, at most {_MAX_HEAD_DIM}"
        return None

    def __call__(self, spec: AttentionSpec, inputs: AttentionInputs) -> jax.Array:
        form = _form(spec.mask)
        assert form is not None
        # Elsewhere than on its platform, as in tests, the same call in XLA's own operations.
        implementation: Literal["cudnn", "xla"] = (
            "cudnn" if current_platform() == spec.platform else "xla"
        )
        return jax.nn.dot_product_attention(
            inputs.query,
            inputs.key,
            inputs.value,
            scale=spec.scale,
            is_causal=form.is_causal,
            local_window_size=form.window,
            implementation=implementation,
        )

    def flops(self, spec: AttentionSpec, program: str) -> float:
        of_keys, of_values = (3, 2) if "Backward" in program else (1, 1)
        return attention_flops(spec, of_keys=of_keys, of_values=of_values, block=_BLOCK)


class _Form(NamedTuple):
    is_causal: bool
    window: tuple[int, int] | None  # how many keys behind and ahead, besides the query's own


def _form(mask: Mask) -> _Form | None:
    """Returns a mask as `jax.nn.dot_product_attention` takes it, None if it does not."""
    if mask == full():
        return _Form(False, None)
    if mask == causal():
        return _Form(True, None)
    match mask:
        case And((first, second)) if causal() in (first, second):
            other = second if first == causal() else first
            if isinstance(other, Window):
                return _Form(True, (other.size - 1, 0))
    return None
