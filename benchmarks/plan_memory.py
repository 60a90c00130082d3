"""Compares the memory that `axl plan` predicts with what a run of the same step takes.

    python benchmarks/plan_memory.py [EXPERIMENT [PATH=VALUE ...] --devices N]

Each measurement has a process of its own. There the state is made, the step compiled, and the
allocator told to hand freed memory back (`malloc_trim`), so that the growth of the peak (VmHWM)
over what was resident before (VmRSS) is that of the step alone: its temporary memory, of all
devices. To it the bytes of the state are added, which both know exactly. One run is one step; what
the allocator rounds up, and threads' stacks and scratch space, make the rest of the difference.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys

CASES = (
    (["text.llama-85m", "model.stack.num_layers=2", "input.batch_size=8", "input.seq_len=256"], 1),
    (["text.llama-85m", "model.stack.num_layers=2", "input.batch_size=8", "input.seq_len=256"], 8),
    (["text.markov", "input.batch_size=512"], 1),
    (["text.markov", "input.batch_size=512"], 8),
)


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
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # resets VmHWM to VmRSS
    jax.block_until_ready(step(state, batch))
    grown = _status("VmHWM") - before
    resident = plan.memory.peak - plan.memory.temporary
    return {
        "planned": devices * plan.memory.peak / 2**20,
        "measured": (devices * resident + grown) / 2**20,
    }


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
    print("| experiment | devices | planned, MiB | measured, MiB | measured / planned |")
    print("| --- | --: | --: | --: | --: |")
    for words, devices in CASES:
        command = [sys.executable, __file__, *words, "--devices", str(devices)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        ratio = found["measured"] / found["planned"]
        figures = f"{found['planned']:.1f} | {found['measured']:.1f} | {ratio:.2f}"
        print(f"| `{' '.join(words)}` | {devices} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
