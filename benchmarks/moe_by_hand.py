"""A training step of the sparse workload in plain JAX and optax: what `moe` is held against.

The dense hand-written step with its three tricks, but for the feed-forward layer: tokens sorted by
expert, `jax.lax.ragged_dot`, and the router as in Mixtral (arXiv:2401.04088). AXLEARN_BASELINES
names the folder with `bench_limit.py`, whose other parts are used as they are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

BASELINES = Path(os.environ["AXLEARN_BASELINES"])
sys.path.insert(0, str(BASELINES))

import benchlib  # noqa: E402, F401, starts its clock, so it comes before jax

EXPERTS, TOP_K = 8, 2


def feed_forward(x, router, gate_up, down):  # type: ignore[no-untyped-def]
    """Maps [batch, seq, dim] by the two best experts of each token."""
    import jax
    import jax.numpy as jnp

    tokens = x.reshape(-1, x.shape[-1])
    scores, experts = jax.lax.top_k(jax.nn.softmax(tokens @ router, -1), TOP_K)
    weights = scores / scores.sum(-1, keepdims=True)
    order = jnp.argsort(experts.reshape(-1))
    sizes = jnp.bincount(experts.reshape(-1), length=EXPERTS)

    @jax.checkpoint
    def gated(hidden):  # type: ignore[no-untyped-def]
        gate, up = jnp.split(hidden, 2, -1)
        return jax.nn.silu(gate) * up

    hidden = jax.lax.ragged_dot(tokens[order // TOP_K], gate_up, sizes)
    outputs = jax.lax.ragged_dot(gated(hidden), down, sizes)
    weighted = outputs * weights.reshape(-1)[order][:, None]
    return jnp.zeros_like(tokens).at[order // TOP_K].add(weighted).reshape(x.shape)


def main() -> None:
    source = (BASELINES / "bench_limit.py").read_text()
    changes = {
        "wgu=n(L, d, 2 * F, fan=d), wd=n(L, F, d, fan=F)": "router=n(L, d, 8, fan=d), "
        "wgu=n(L, 8, d, F, fan=d), wd=n(L, 8, F // 2, d, fan=F // 2)",
        'gu = h @ p["wgu"]': "",
        'glu(gu) @ p["wd"]': 'FEED_FORWARD(h, p["router"], p["wgu"], p["wd"])',
        'system="limit-jax"': 'system="limit-moe"',
    }
    for old, new in changes.items():
        if old not in source:
            raise SystemExit(f"bench_limit.py has no {old!r} any more: adapt moe_by_hand.py")
        source = source.replace(old, new)
    sys.argv += ["--variant", "remattn,liger,blk"]
    exec(compile(source, "bench_limit.py", "exec"), {"FEED_FORWARD": feed_forward})


if __name__ == "__main__":
    main()
