"""Compares the memory that `axl plan` predicts with what a run of the same step takes.

    python benchmarks/plan_memory.py [EXPERIMENT [PATH=VALUE ...] --devices N]

Each measurement has a process of its own. There the state is made, the step compiled, and then run
once, in between two looks at the process:

- *allocated*: how much more memory the C library has handed out (`mallinfo2`, looked at all along)
  than before. That is the peak of live buffers, which is what a plan predicts, and what an
  accelerator has to have.
- *resident*: how much more of it the kernel had to provide (VmHWM over VmRSS, after `malloc_trim`).
  A page that nobody has written yet is not there, so that this is less where buffers are never
  filled, and more by the stacks and the scratch space of threads.

To both the bytes of the state are added, which are known exactly. All is of all devices together.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable

SMALL = ("text.llama-85m", "model.stack.num_layers=2", "input.batch_size=8", "input.seq_len=256")
EXPERTS = (
    "published.qwen3-30b-a3b",
    "model.dim=256",
    "model.stack.num_layers=2",
    "model.stack.layer.feed_forward.num_experts=8",
    "model.vocab_size=2048",
    "input.vocab_size=2048",
    "input.batch_size=8",
    "input.seq_len=256",
    "compute_dtype=null",
)
CASES = (
    (SMALL, 1),
    (SMALL, 8),
    ((*SMALL, 'mesh_shape={"fsdp": 8}'), 8),
    ((*SMALL, 'mesh_shape={"fsdp": 4, "model": 2}'), 8),
    ((*SMALL, "compute_dtype=bfloat16", "accumulation=2"), 1),
    (EXPERTS, 1),
    (EXPERTS, 8),
    (("text.markov", "input.batch_size=512"), 1),
    (("text.markov", "input.batch_size=512"), 8),
)


_INSTRUMENTS = ("allocated", "resident")


def measure(words: list[str], devices: int) -> dict[str, float]:
    """Plans and runs one step in this process."""
    os.environ["JAX_NUM_CPU_DEVICES"] = str(devices)
    import jax

    from axlearn_core.cli.plan import plan_on, trainer_on
    from axlearn_core.plan.target import parse_target
    from axlearn_core.plugins import get_registry

    experiment, *overrides = words
    registry = get_registry()
    target = parse_target(f"cpu-{devices}", registry).with_devices()
    plan = plan_on(target, experiment, tuple(overrides), registry)
    trainer = trainer_on(target, experiment, tuple(overrides), registry)
    program = trainer.program(trainer.placement(target.devices))
    step = program.compile_train_step(trainer.input.batch_shape()).result().run
    state = jax.block_until_ready(program.initial_state())
    structs = program.batch_structs(trainer.input.batch_shape())
    rows = next(trainer.input.batches())
    batch = {name: jax.device_put(rows[name], x.sharding) for name, x in structs.items()}
    jax.block_until_ready(batch)
    c_library = ctypes.CDLL(None)
    c_library.malloc_trim(0)
    resident = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # resets VmHWM to VmRSS
    allocated = _peak_of_allocated(lambda: jax.block_until_ready(step(state, batch)))
    grown = _status("VmHWM") - resident
    state_bytes = devices * plan.memory.state
    return {
        "planned": devices * plan.memory.peak / 2**20,
        "allocated": (state_bytes + allocated) / 2**20,
        "resident": (state_bytes + grown) / 2**20,
    }


class _Allocated(ctypes.Structure):
    """`struct mallinfo2` of glibc, see mallinfo(3)."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def _peak_of_allocated(run: Callable[[], object]) -> int:
    """Returns by how much what the C library has handed out grows at most while `run` runs.

    XLA allocates a program's temporary memory in one piece that lives as long as it runs, so that
    looking every millisecond finds it.
    """
    look = ctypes.CDLL(None).mallinfo2
    look.restype = _Allocated

    def now() -> int:
        info = look()
        return int(info.uordblks + info.hblkhd)  # on the heaps, and mapped one by one

    before = peak = now()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, now())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return peak - before


def _status(key: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="an experiment and overrides; all cases without")
    parser.add_argument("--devices", type=int, default=1)
    given = parser.parse_args()
    if given.words:
        print(json.dumps(measure(given.words, given.devices)))
        return
    print("| experiment | devices | planned, MiB | allocated | of it | resident | of it |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for words, devices in CASES:
        command = [sys.executable, __file__, *words, "--devices", str(devices)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        planned = found["planned"]
        figures = [f"{found[key]:.1f} | {found[key] / planned:.3f}" for key in _INSTRUMENTS]
        cells = " | ".join([f"`{' '.join(words)}`", str(devices), f"{planned:.1f}", *figures])
        print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    main()
