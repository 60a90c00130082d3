"""The cross entropy op: a linear output head and its loss, which never need all logits at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.kernels.selection import Kernel, select
from axlearn_core.kernels.targets import SoftTargets, Targets
from axlearn_core.parallel import current_platform, device_shape, per_device

_TOKENS = ("batch", "seq")


@dataclass(frozen=True)
class CrossEntropySpec:
    """Everything static about one loss, as one device computes it."""

    batch: int
    length: int
    dim: int
    vocab_size: int
    dtype: str  # of the hidden vectors, such as "bfloat16"; logits are float32
    listed: int | None  # tokens of each soft target; None: a target is one token
    z_loss_scale: float
    label_smoothing: float
    logit_cap: float | None
    chunk_size: int  # tokens of each sequence whose logits may exist at one time
    platform: str  # "cpu", "gpu" or "tpu"

    def __str__(self) -> str:
        extras = {
            "z-loss": self.z_loss_scale,
            "smoothing": self.label_smoothing,
            "cap": self.logit_cap,
            "soft targets of": self.listed,
        }
        words = [f"{name} {value}" for name, value in extras.items() if value]
        sizes = f"batch {self.batch}, {self.length} tokens, {self.dim} to {self.vocab_size}"
        return f"cross_entropy({', '.join([sizes, self.dtype, *words, self.platform])})"


class CrossEntropyInputs(NamedTuple):
    """The arrays of one loss."""

    hidden: jax.Array  # [batch, seq, dim]
    table: jax.Array  # [vocab_size, dim]
    targets: Targets  # [batch, seq] int, or soft
    weights: jax.Array  # [batch, seq]


class LossSums(NamedTuple):
    """Sums over all tokens, each [] float32 and weighted by token. Only `total` has gradients."""

    total: jax.Array  # cross entropy and z-loss
    cross_entropy: jax.Array
    z_loss: jax.Array  # scaled
    correct: jax.Array  # tokens whose (likeliest) target has the highest logit


def cross_entropy(
    hidden: jax.Array,
    table: jax.Array,
    targets: Targets,
    weights: jax.Array,
    *,
    z_loss_scale: float = 0.0,
    label_smoothing: float = 0.0,
    logit_cap: float | None = None,
    chunk_size: int = 128,
    implementation: str | None = None,
) -> LossSums:
    """Sums w_t * (sum_v q_tv (lse_t - logit_tv) + z * lse_t^2), with logits = hidden @ table^T.

    lse is the log of the summed exponentials; z pulls it towards 0 (z-loss, arXiv:2204.02311). q is
    1 at the target, or a distribution p, such as a teacher's (arXiv:1503.02531). Smoothed
    (arXiv:1512.00567) it is (1 - e) p_v + e / vocab_size * sum(p). Logits may be soft-capped first.

    Args:
        hidden: [batch, seq, dim].
        table: [vocab_size, dim], cast to the dtype of `hidden`.
        targets: [batch, seq] int, or `SoftTargets`, which get no gradient.
        weights: [batch, seq], 0 for tokens that do not count. They get no gradient.
        z_loss_scale: z.
        label_smoothing: e.
        logit_cap: See `soft_cap`.
        chunk_size: Tokens of each sequence whose logits may exist at one time.
        implementation: A kernel's name to force it; None is the first that supports the case.

    Raises:
        UserError: if no kernel, or not the forced one, supports the case.
    """
    batch, length = device_shape(weights.shape, _TOKENS)
    spec = CrossEntropySpec(
        batch=batch,
        length=length,
        dim=hidden.shape[-1],
        vocab_size=table.shape[0],
        dtype=hidden.dtype.name,
        listed=targets.ids.shape[-1] if isinstance(targets, SoftTargets) else None,
        z_loss_scale=z_loss_scale,
        label_smoothing=label_smoothing,
        logit_cap=logit_cap,
        chunk_size=chunk_size,
        platform=current_platform(),
    )
    kernel = select("cross_entropy", spec, implementation)
    inputs = CrossEntropyInputs(hidden, table, targets, weights)
    if getattr(kernel, "opaque", False):
        return _per_device(kernel, spec, inputs)
    sums: LossSums = kernel(spec, inputs)
    return sums


def soft_cap(logits: jax.Array, cap: float | None) -> jax.Array:
    """Returns cap * tanh(logits / cap), None caps nothing (Gemma 2, arXiv:2408.00118)."""
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def _per_device(kernel: Kernel, spec: CrossEntropySpec, inputs: CrossEntropyInputs) -> LossSums:
    """Adds up what each device computes of its tokens, with the whole table."""

    def compute(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(x.reshape(1, 1) for x in kernel(spec, CrossEntropyInputs(*arrays)))

    in_axes = [(*_TOKENS, None), (None, None), _TOKENS, _TOKENS]
    sums = per_device(compute, in_axes, [_TOKENS] * len(LossSums._fields))(*inputs)
    return LossSums(*(x.sum() for x in sums))
