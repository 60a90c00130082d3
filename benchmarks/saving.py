"""How long an asynchronous save holds up the loop, relative to a step of the small workload."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
from workloads import workload

from axlearn_core.checkpoint.checkpointer import Checkpointer
from axlearn_core.training.share import place_batch

SAVES = 5


def main() -> None:
    trainer = workload("small").instantiate()
    program = trainer.program(trainer.placement())
    compiled = program.compile_train_step(trainer.input.batch_shape()).result()
    state = program.initial_state()
    batch = place_batch(next(trainer.input.batches()), program.placement)

    def step() -> float:
        nonlocal state
        start = time.perf_counter()
        state, _ = jax.block_until_ready(compiled.run(state, batch))
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        config = Checkpointer.default_config().set(every=None, keep=1)
        checkpointer: Checkpointer = config.instantiate(directory=Path(folder))
        checkpointer.save(0, state, {}, {})  # warm up
        step()
        plain, stalls, beside = [], [], []
        for number in range(1, SAVES + 1):
            checkpointer.wait()
            plain.append(step())
            start = time.perf_counter()
            checkpointer.save(number, state, {}, {})
            stalls.append(time.perf_counter() - start)
            beside.append(step())  # writing goes on beside it, on the same cores
        checkpointer.close()
    per_step, stall = statistics.median(plain), statistics.median(stalls)
    result = {
        "step_s": per_step,
        "stall_s": stall,
        "ratio": stall / per_step,
        "step_beside_a_save_s": statistics.median(beside),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
