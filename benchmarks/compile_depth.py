"""Compile time of the scanned stack: 32 layers against 4, in turn, several times."""

from __future__ import annotations

import json
import statistics
import time

import jax
from workloads import workload

from axlearn_core.config import find
from axlearn_layers import Repeat


def compile_seconds(num_layers: int) -> float:
    """Traces and compiles the training step of the tiny workload, without any cache."""
    jax.clear_caches()
    cfg = workload("tiny")
    for _, stack in find(cfg, Repeat):
        stack.set(num_layers=num_layers)
    trainer = cfg.instantiate()
    program = trainer.program(trainer.placement())
    start = time.perf_counter()
    program.compile_train_step(trainer.input.batch_shape()).result()
    return time.perf_counter() - start


def main() -> None:
    compile_seconds(2)  # warm up
    pairs = [(compile_seconds(4), compile_seconds(32)) for _ in range(5)]
    few, many = (statistics.median(times) for times in zip(*pairs, strict=True))
    result = {"4_layers_s": few, "32_layers_s": many, "ratio": many / few}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
