"""The trainer's own step, in the protocol of the hand-written baselines.

AXLEARN_BASELINES names the folder with the baselines, `benchlib` and `driver.py`. Alone::

    python benchmarks/race_step.py --work small --n 5

`run.py` races it against the hand-written step.
"""

from __future__ import annotations

import os
import sys
import time

sys.path.insert(0, os.environ["AXLEARN_BASELINES"])

import benchlib  # starts its clock, so it comes before jax

import_start = time.time()
import jax  # noqa: E402
from workloads import SIZES, workload  # noqa: E402

from axlearn_core.module import parameter_count  # noqa: E402
from axlearn_core.training.share import place_batch  # noqa: E402

import_seconds = time.time() - import_start


def main() -> None:
    # benchlib knows no sparse workload; its sizes are for counting what is computed, active FLOPs.
    benchlib.WORK.setdefault("moe", benchlib.WORK["small"])
    args = benchlib.args()
    start = time.time()
    trainer = workload(args.work).instantiate()
    program = trainer.program(trainer.placement())
    compiling = program.compile_train_step(trainer.input.batch_shape())
    state = program.initial_state()
    batch = place_batch(next(trainer.input.batches()), program.placement)
    jax.block_until_ready(state)
    init_seconds = time.time() - start
    compiled = compiling.result()

    def step() -> float:
        nonlocal state
        state, metrics = compiled.run(state, batch)
        loss = float(metrics["loss"])
        jax.block_until_ready(state)
        return loss

    meta = {
        "system": "axlearn",
        "variant": "trainer",
        "work": args.work,
        "w": SIZES[args.work],
        "params": parameter_count(trainer.model.parameter_specs()),
        "import_s": round(import_seconds, 3),
        "init_s": round(init_seconds, 3),
        "trace_s": round(compiled.trace_seconds, 3),
        "compile_s": round(compiled.compile_seconds, 3),
        "ver": {"jax": jax.__version__},
    }
    benchlib.serve(step, meta, args.n)


if __name__ == "__main__":
    main()
