"""This project's train step, in the protocol of the hand-written baselines.

Alone, or in a race with others, where BASELINES is the folder with the baselines, `benchlib` and
`driver.py`::

    export AXLEARN_BASELINES=BASELINES
    python benchmarks/bench_axlearn.py --work small --n 5
    python BASELINES/driver.py out.jsonl --rounds 5 --k 2 -- \
        'python BASELINES/bench_limit.py --work small --variant remattn,liger,blk' \
        'python benchmarks/bench_axlearn.py --work small'

`--variant packed` feeds segment ids and positions, as batches of prepared data have them.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

sys.path.insert(0, os.environ["AXLEARN_BASELINES"])

import benchlib  # starts to measure, so it comes before jax

import_start = time.time()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from axlearn_core.module import functional, parameter_count  # noqa: E402
from axlearn_layers import CausalLM, Rotary  # noqa: E402

import_seconds = time.time() - import_start


def model_config(work: dict[str, int]) -> CausalLM.Config:
    """The Llama-like model that all baselines train."""
    cfg = CausalLM.default_config().set(vocab_size=work["V"], dim=work["d"])
    cfg.stack.num_layers = work["L"]
    cfg.stack.layer.attention.set(
        num_heads=work["H"], num_kv_heads=work["KV"], qkv=Rotary.default_config()
    )
    cfg.stack.layer.feed_forward.hidden_dim = work["F"]
    return cfg


def make_batch(work: dict[str, int], packed: bool) -> dict[str, np.ndarray]:
    tokens = np.asarray(benchlib.batch_tokens(work), np.int32)
    shape = (work["B"], work["S"])
    batch = {
        "input_ids": tokens[:, :-1],
        "target_ids": tokens[:, 1:],
        "target_weights": np.ones(shape, np.float32),
    }
    if packed:  # one document per row, so that the loss is the baselines'
        batch["segment_ids"] = np.ones(shape, np.int32)
        batch["positions"] = np.tile(np.arange(work["S"], dtype=np.int32), (work["B"], 1))
    return batch


def main() -> None:
    args = benchlib.args()
    work = benchlib.WORK[args.work]
    start = time.time()
    model = model_config(work).instantiate()
    optimizer = optax.chain(
        optax.clip_by_global_norm(benchlib.CLIP),
        optax.adamw(benchlib.LR, benchlib.B1, benchlib.B2, benchlib.EPS, weight_decay=benchlib.WD),
    )

    def loss_fn(params: Any, batch: Any) -> jax.Array:
        loss, _ = functional(model, state=params, prng_key=None, inputs=(batch,), is_training=True)
        return loss.total / loss.weight

    def train_step(params: Any, state: Any, batch: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    params = jax.jit(model.initialize)(jax.random.key(0))
    state = jax.jit(optimizer.init)(params)
    jax.block_until_ready((params, state))
    init_seconds = time.time() - start

    batch = jax.tree.map(jnp.asarray, make_batch(work, "packed" in args.variant.split(",")))
    start = time.time()
    lowered = jax.jit(train_step, donate_argnums=(0, 1)).lower(params, state, batch)
    trace_seconds = time.time() - start
    start = time.time()
    compiled = lowered.compile()
    compile_seconds = time.time() - start

    def step() -> float:
        nonlocal params, state
        params, state, loss = compiled(params, state, batch)
        value = float(loss)
        jax.block_until_ready(params)
        return value

    meta = {
        "system": "axlearn",
        "variant": args.variant,
        "work": args.work,
        "w": work,
        "params": parameter_count(model.parameter_specs()),
        "import_s": round(import_seconds, 3),
        "init_s": round(init_seconds, 3),
        "trace_s": round(trace_seconds, 3),
        "compile_s": round(compile_seconds, 3),
        "ver": {"jax": jax.__version__, "optax": optax.__version__},
    }
    benchlib.serve(step, meta, args.n)


if __name__ == "__main__":
    main()
