"""Cross entropy as the formula says it, from all logits at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from axlearn_core.kernels.cross_entropy import (
    CrossEntropyInputs,
    CrossEntropySpec,
    LossSums,
    soft_cap,
)
from axlearn_core.kernels.targets import wanted


class ReferenceCrossEntropy:
    """Its logits take batch * seq * vocab_size floats."""

    priority = 0

    def supports(self, spec: CrossEntropySpec) -> str | None:
        return None

    def __call__(self, spec: CrossEntropySpec, inputs: CrossEntropyInputs) -> LossSums:
        table = inputs.table.astype(inputs.hidden.dtype)
        logits = jnp.matmul(inputs.hidden, table.T, preferred_element_type=jnp.float32)
        logits = soft_cap(logits, spec.logit_cap)
        lse = jax.nn.logsumexp(logits, axis=-1)
        targets = jax.lax.stop_gradient(inputs.targets)
        weights = jax.lax.stop_gradient(inputs.weights).astype(jnp.float32)
        target = wanted(targets, logits)
        smoothing, mass = spec.label_smoothing, target.mass
        q = (1 - smoothing) * target.probabilities + smoothing * mass / spec.vocab_size
        cross_entropy = jnp.sum(weights * (q * (lse[..., None] - logits)).sum(axis=-1))
        z_loss = spec.z_loss_scale * jnp.sum(weights * lse**2)
        correct = jnp.sum(weights * (target.likeliest_logit[..., 0] >= logits.max(axis=-1)))
        total = cross_entropy + z_loss
        return LossSums(total, *jax.lax.stop_gradient((cross_entropy, z_loss, correct)))
