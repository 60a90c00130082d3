"""What saving and restoring cost: the loop's stall, and MB/s beside what the disk can do.

Everything is measured in one process, in turns. `raw tensorstore` writes and reads the same arrays
in the same layout, without fsync, checksums or a manifest; `sequential` writes the same bytes to
one file and waits until they are on the disk. TMPDIR says on which.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore as ts
from workloads import workload

from axlearn_core.checkpoint import damage, step_folder
from axlearn_core.checkpoint.checkpointer import Checkpointer, flatten_state, restore
from axlearn_core.training.share import place_batch

SAVES = 3
MOVING = ("save", "restore", "verify", "raw_save", "raw_restore", "sequential")


def spec(folder: Path, name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    metadata = {"shape": array.shape, "chunks": array.shape, "compressor": None}
    kvstore = {"driver": "file", "path": str(folder / name)}
    return {"driver": "zarr", "kvstore": kvstore, "metadata": metadata, "dtype": array.dtype.name}


def write_raw(folder: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    stores = {n: ts.open(spec(folder, n, x), create=True, open=True) for n, x in arrays.items()}
    for each in [store.result().write(arrays[name]) for name, store in stores.items()]:
        each.result()


def read_raw(folder: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
    stores = [ts.open(spec(folder, n, x), open=True) for n, x in arrays.items()]
    return [each.result() for each in [store.result().read() for store in stores]]


def write_sequentially(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    with path.open("wb") as file:
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    trainer = workload("small").instantiate()
    program = trainer.program(trainer.placement())
    compiled = program.compile_train_step(trainer.input.batch_shape()).result()
    state = program.initial_state()
    batch = place_batch(next(trainer.input.batches()), program.placement)

    def step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled.run(state, batch))

    seconds: dict[str, list[float]] = {}

    def measure(name: str, action: Callable[..., Any], *arguments: Any) -> None:
        start = time.perf_counter()
        jax.block_until_ready(action(*arguments))
        seconds.setdefault(name, []).append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).absolute()
        checkpointer: Checkpointer = (
            Checkpointer.default_config().set(every=None, keep=1).instantiate(directory=here)
        )
        checkpointer.save(0, state, {}, {})  # warm up
        checkpointer.wait()
        step()
        for number in range(1, SAVES + 1):
            measure("step", step)
            arrays = {name: np.asarray(x) for name, x in flatten_state(state).items()}
            start = time.perf_counter()
            checkpointer.save(2 * number, state, {}, {})
            seconds.setdefault("stall", []).append(time.perf_counter() - start)
            checkpointer.wait()
            seconds.setdefault("save", []).append(time.perf_counter() - start)
            saved = step_folder(here, 2 * number)
            measure("restore", restore, saved, program.state)
            measure("verify", damage, saved)
            measure("raw_save", write_raw, here / "raw", arrays)
            measure("raw_restore", read_raw, here / "raw", arrays)
            measure("sequential", write_sequentially, here / "file", arrays)
            shutil.rmtree(here / "raw")
            checkpointer.save(2 * number + 1, state, {}, {})
            measure("step_beside_a_save", step)  # writing goes on beside it, on the same cores
            checkpointer.wait()
        checkpointer.close()
    took = {name: statistics.median(values) for name, values in seconds.items()}
    megabytes = sum(x.nbytes for x in arrays.values()) / 1e6
    result = {
        "ratio": took["stall"] / took["step"],
        "step_s": took["step"],
        "stall_s": took["stall"],
        "step_beside_a_save_s": took["step_beside_a_save"],
        "MB": megabytes,
        **{f"{name}_MB_s": megabytes / took[name] for name in MOVING},
        "save_to_raw": took["raw_save"] / took["save"],
        "save_to_sequential": took["sequential"] / took["save"],
        "restore_to_raw": took["raw_restore"] / took["restore"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
