"""A training step of the sparse workload in plain JAX and optax: what `moe` is held against.

Written as the dense one of the baselines is, with the same three tricks: recompute only what is
cheap, fuse the head with the loss, skip the blocks that a causal mask empties. The router is that
of Mixtral (arXiv:2401.04088), without auxiliary loss. Each expert takes the tokens that chose it,
up to a fixed capacity, a quarter more than in balance; the rest it leaves out. (On the CPU
`jax.lax.ragged_dot` computes all experts for all tokens.)
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

sys.path.insert(0, os.environ["AXLEARN_BASELINES"])

import benchlib  # starts its clock, so it comes before jax

import_start = time.time()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from workloads import SIZES  # noqa: E402

import_seconds = time.time() - import_start

SIZE = SIZES["moe"]
WIDTH, LAYERS, HEADS, KV_HEADS, HIDDEN, VOCAB, SEQ, BATCH = SIZE.values()
HEAD = WIDTH // HEADS
EXPERTS, TOP_K = 8, 2
CAPACITY = BATCH * SEQ * TOP_K // EXPERTS * 5 // 4
QUERIES = 128  # of a block of attention
CHUNKS = 4  # of tokens, in the loss
Params = dict[str, Any]


def init(key: jax.Array) -> Params:
    keys = iter(jax.random.split(key, 16))

    def normal(*shape: int, fan_in: int) -> jax.Array:
        return jax.random.normal(next(keys), shape) * fan_in**-0.5

    return {
        "embedding": jax.random.normal(next(keys), (VOCAB, WIDTH)) * 0.02,
        "head": normal(WIDTH, VOCAB, fan_in=WIDTH),
        "norm": jnp.ones(WIDTH),
        "layers": {
            "norm_1": jnp.ones((LAYERS, WIDTH)),
            "norm_2": jnp.ones((LAYERS, WIDTH)),
            "qkv": normal(LAYERS, WIDTH, (HEADS + 2 * KV_HEADS) * HEAD, fan_in=WIDTH),
            "out": normal(LAYERS, WIDTH, WIDTH, fan_in=WIDTH),
            "router": normal(LAYERS, WIDTH, EXPERTS, fan_in=WIDTH),
            "gate_up": jnp.unstack(normal(EXPERTS, LAYERS, WIDTH, 2 * HIDDEN, fan_in=WIDTH)),
            "down": jnp.unstack(normal(EXPERTS, LAYERS, HIDDEN, WIDTH, fan_in=HIDDEN)),
        },
    }


@jax.checkpoint
def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def rotate(x: jax.Array) -> jax.Array:
    frequencies = 10000.0 ** -(jnp.arange(0, HEAD, 2) / HEAD)
    angles = jnp.outer(jnp.arange(SEQ), frequencies)[:, None, :]
    a, b = jnp.split(x, 2, -1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


@jax.checkpoint
def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attends causally, q [batch, kv head, group, seq, head], k and v [batch, kv head, ...]."""
    outputs = []
    for start in range(0, SEQ, QUERIES):
        end = start + QUERIES
        scores = jnp.einsum("bngqd,bnkd->bngqk", q[..., start:end, :], k[..., :end, :])
        unmasked = jnp.arange(start, end)[:, None] >= jnp.arange(end)
        probabilities = jax.nn.softmax(jnp.where(unmasked, scores, -1e9), -1)
        outputs.append(jnp.einsum("bngqk,bnkd->bngqd", probabilities, v[..., :end, :]))
    return jnp.concatenate(outputs, 3).transpose(0, 3, 1, 2, 4).reshape(BATCH, SEQ, WIDTH)


def attention(x: jax.Array, p: Params) -> jax.Array:
    qkv = (x @ p["qkv"]).reshape(BATCH, SEQ, -1, HEAD)
    q, k, v = jnp.split(qkv, [HEADS, HEADS + KV_HEADS], axis=2)
    q = (rotate(q) * HEAD**-0.5).reshape(BATCH, SEQ, KV_HEADS, -1, HEAD)
    q, k, v = q.transpose(0, 2, 3, 1, 4), rotate(k).swapaxes(1, 2), v.swapaxes(1, 2)
    return attend(q, k, v) @ p["out"]


@jax.checkpoint
def gated(hidden: jax.Array) -> jax.Array:
    gate, up = jnp.split(hidden, 2, -1)
    return jax.nn.silu(gate) * up


def experts(x: jax.Array, p: Params) -> jax.Array:
    tokens = x.reshape(-1, WIDTH)
    scores, chosen = jax.lax.top_k(jax.nn.softmax(tokens @ p["router"], -1), TOP_K)
    weights = (scores / scores.sum(-1, keepdims=True)).reshape(-1)
    order = jnp.argsort(chosen.reshape(-1))
    sizes = jnp.bincount(chosen.reshape(-1), length=EXPERTS)
    starts = jnp.cumsum(sizes) - sizes
    output = jnp.zeros_like(tokens)
    for expert, (gate_up, down) in enumerate(zip(p["gate_up"], p["down"], strict=True)):
        rank = jnp.arange(CAPACITY)
        choice = order[jnp.minimum(starts[expert] + rank, order.size - 1)]
        weight = jnp.where(rank < sizes[expert], weights[choice], 0.0)
        hidden = gated(tokens[choice // TOP_K] @ gate_up)
        output = output.at[choice // TOP_K].add(weight[:, None] * (hidden @ down))
    return output.reshape(x.shape)


@jax.custom_vjp
def head_loss(x: jax.Array, head: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross entropy of x [tokens, width]; gradients are made on the way, chunk by chunk."""
    return head_loss_forward(x, head, targets)[0]


def head_loss_forward(x: jax.Array, head: jax.Array, targets: jax.Array) -> Any:
    def chunk(carry: Any, part: Any) -> Any:
        total, head_grad = carry
        x, targets = part
        log_probabilities = jax.nn.log_softmax(x @ head)
        total -= jnp.take_along_axis(log_probabilities, targets[:, None], -1).sum()
        grad = jnp.exp(log_probabilities) - (targets[:, None] == jnp.arange(VOCAB))
        return (total, head_grad + x.T @ grad), grad @ head.T

    count = targets.size
    parts = x.reshape(CHUNKS, -1, WIDTH), targets.reshape(CHUNKS, -1)
    (total, head_grad), x_grad = jax.lax.scan(chunk, (0.0, jnp.zeros_like(head)), parts)
    return total / count, (x_grad.reshape(x.shape) / count, head_grad / count)


head_loss.defvjp(head_loss_forward, lambda kept, g: (kept[0] * g, kept[1] * g, None))


def loss_of(params: Params, ids: jax.Array) -> jax.Array:
    def layer(x: jax.Array, p: Params) -> tuple[jax.Array, None]:
        x = x + attention(rms_norm(x, p["norm_1"]), p)
        return x + experts(rms_norm(x, p["norm_2"]), p), None

    x, _ = jax.lax.scan(layer, params["embedding"][ids[:, :-1]], params["layers"])
    x = rms_norm(x, params["norm"]).reshape(-1, WIDTH)
    return head_loss(x, params["head"], ids[:, 1:].reshape(-1))


def main() -> None:
    benchlib.WORK["moe"] = SIZES["small"]  # for counting what is computed: active FLOPs
    args = benchlib.args()
    optimizer = optax.chain(
        optax.clip_by_global_norm(benchlib.CLIP),
        optax.adamw(benchlib.LR, benchlib.B1, benchlib.B2, benchlib.EPS, weight_decay=benchlib.WD),
    )

    def train_step(params: Params, state: Any, ids: jax.Array) -> tuple[Params, Any, jax.Array]:
        loss, grads = jax.value_and_grad(loss_of)(params, ids)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    start = time.time()
    params = jax.jit(init)(jax.random.key(0))
    state = jax.block_until_ready(jax.jit(optimizer.init)(params))
    ids = jnp.asarray(benchlib.batch_tokens(SIZE), jnp.int32)
    ready = time.time()
    lowered = jax.jit(train_step, donate_argnums=(0, 1)).lower(params, state, ids)
    traced = time.time()
    compiled = lowered.compile()
    done = time.time()

    def step() -> float:
        nonlocal params, state
        params, state, loss = compiled(params, state, ids)
        jax.block_until_ready(params)
        return float(loss)

    meta = {
        "system": "limit-moe",
        "variant": "capacity",
        "work": "moe",
        "w": SIZE,
        "params": sum(x.size for x in jax.tree.leaves(params)),
        "import_s": round(import_seconds, 3),
        "init_s": round(ready - start, 3),
        "trace_s": round(traced - ready, 3),
        "compile_s": round(done - traced, 3),
        "ver": {"jax": jax.__version__, "optax": optax.__version__},
    }
    benchlib.serve(step, meta, args.n)


if __name__ == "__main__":
    main()
