"""How fast prepared data are read, against what training on the same machine consumes."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import jax

from axlearn_core.training.share import place_batch
from axlearn_experiments.text import quickstart
from axlearn_inputs import PackedInput, prepare

BATCHES, STEPS = 2000, 20


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cfg = quickstart().set(compile_cache=None)
        assert isinstance(cfg.input, PackedInput.Config)
        prepare(cfg.input.source, Path(folder) / "data", report=lambda line: None)
        cfg.input.directory = str(Path(folder) / "data")
        cfg.evaluations = {}
        trainer = cfg.instantiate()
        batches = trainer.input.batches()
        next(batches)  # the first opens the shards and checks them
        start = time.perf_counter()
        for _ in range(BATCHES):
            batch = next(batches)
        read = BATCHES * batch["input_ids"].size / (time.perf_counter() - start)

        program = trainer.program(trainer.placement())
        compiled = program.compile_train_step(trainer.input.batch_shape()).result()
        state, placed = program.initial_state(), place_batch(batch, program.placement)
        state, _ = jax.block_until_ready(compiled.run(state, placed))
        start = time.perf_counter()
        for _ in range(STEPS):
            state, _ = jax.block_until_ready(compiled.run(state, placed))
        trained = STEPS * batch["input_ids"].size / (time.perf_counter() - start)
    result = {"read_tokens_s": read, "trained_tokens_s": trained, "ratio": read / trained}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
