"""The norm op: root mean square norm and layer norm over the last dimension."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax

from axlearn_core.errors import UserError
from axlearn_core.kernels.selection import Kernel, select
from axlearn_core.parallel import current_platform, device_shape, per_device

NormKind = Literal["rms", "layer"]


@dataclass(frozen=True)
class NormSpec:
    """Everything static about one norm, as one device computes it."""

    kind: NormKind  # "layer" subtracts the mean first
    vectors: int
    dim: int  # of each vector
    groups: int  # how many (scale, bias) there are: vector i has those of i modulo groups
    eps: float  # added to the mean square, or to the variance
    dtype: str  # of the vectors, such as "bfloat16"; statistics are float32
    has_bias: bool
    platform: str  # "cpu", "gpu" or "tpu"

    def __str__(self) -> str:
        extras = f", {self.groups} groups" * (self.groups > 1) + ", bias" * self.has_bias
        sizes = f"{self.vectors} vectors of {self.dim}"
        return f"norm({self.kind}, {sizes}, {self.dtype}{extras}, {self.platform})"


class NormInputs(NamedTuple):
    """The arrays of one norm."""

    x: jax.Array  # [..., dim], or [..., groups, dim]
    scale: jax.Array  # [dim], or [groups, dim]
    bias: jax.Array | None  # as scale


def norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array | None = None,
    *,
    kind: NormKind,
    eps: float,
    axes: Sequence[str | None] | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Computes `x / sqrt(mean(x^2) + eps) * scale + bias`, for "layer" with x - mean(x) for x.

    Args:
        x: [..., dim]; means are over the last dimension.
        scale: [dim], or [groups, dim] where the last but one dimension of x is of groups.
        bias: As scale; None is 0.
        kind: "rms" (arXiv:1910.07467) or "layer" (arXiv:1607.06450).
        eps: Added to what the root is taken of.
        axes: The logical axes of x, None is ("batch", "seq", None, ...). Kernels that the compiler
            cannot split get the parts that lie on each device.
        implementation: A kernel's name to force it; None is the first that supports the case.

    Returns:
        The same shape and dtype as x.

    Raises:
        UserError: if shapes do not fit, or no kernel (or not the forced one) supports the case.
    """
    if scale.shape != x.shape[x.ndim - scale.ndim :] or scale.ndim not in (1, 2):
        raise UserError(
            f"norm: scale {scale.shape} must be the last dimension of x {x.shape}, or the last two"
        )
    if bias is not None and bias.shape != scale.shape:
        raise UserError(f"norm: bias {bias.shape} must have the shape of scale {scale.shape}")
    if axes is None:
        leading = x.ndim - 1
        axes = (*("batch", "seq")[:leading], *[None] * (leading - 2), None)
    spec = NormSpec(
        kind=kind,
        vectors=math.prod(device_shape(x.shape, axes)[:-1]),
        dim=x.shape[-1],
        groups=scale.shape[0] if scale.ndim == 2 else 1,
        eps=eps,
        dtype=x.dtype.name,
        has_bias=bias is not None,
        platform=current_platform(),
    )
    kernel = select("norm", spec, implementation)
    compute: Callable[..., Any] = functools.partial(_call, kernel, spec)
    if getattr(kernel, "opaque", False):
        whole = [None] * scale.ndim
        compute = per_device(compute, [axes, whole, None if bias is None else whole], axes)
    output: jax.Array = compute(x, scale, bias)
    return output


def _call(
    kernel: Kernel, spec: NormSpec, x: jax.Array, scale: jax.Array, bias: jax.Array | None
) -> jax.Array:
    output: jax.Array = kernel(spec, NormInputs(x, scale, bias))
    return output
