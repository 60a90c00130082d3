"""The whole trainer against the bare jitted step: metrics, data, clock, checkpoints together.

    python benchmarks/overhead.py [--work small] [--steps 20] [--every 10] [--rounds 3]

All run the same compiled program in one process, in turn. The bare step has its batch on the device
and is called; the trainer reads data, logs every 10 steps, and saves every `--every` or not at all.
Its steps are timed by the arrival of their values, so that what holds the loop up or takes the
cores counts, but for the wait for the last checkpoint, after which nothing comes.

`ratio` is that of a run that saves every 1000 steps, the default, of which a save's share is
computed from those here. On a machine that others use, believe `cpu_ratio`: of the CPU seconds of
this process on all cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from workloads import SIZES, workload

from axlearn_core.checkpoint.checkpointer import Checkpointer
from axlearn_core.observe.events import read_events
from axlearn_core.observe.goodput import account
from axlearn_core.observe.progress import Silence
from axlearn_core.training import Trainer
from axlearn_core.training.share import place_batch

WARM_UP = 3  # steps that no interval holds
USUALLY_EVERY = Checkpointer.default_config().every


class Spent(NamedTuple):
    """Seconds on the clock, and of this process on all cores."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time())

    def per_step(self, since: Spent, steps: int) -> Spent:
        return Spent((self.wall - since.wall) / steps, (self.cpu - since.cpu) / steps)


class Arrivals(Silence):
    """When the values of each step arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[int, Spent] = {}

    def step(self, step: int, values: Mapping[str, str], *, logged: bool) -> None:
        self.at[step] = Spent.now()


class Bare:
    """The compiled step and one batch."""

    def __init__(self, cfg: Trainer.Config):
        trainer: Trainer = cfg.instantiate()
        self._program = trainer.program(trainer.placement())
        self._compiled = self._program.compile_train_step(trainer.input.batch_shape()).result()
        self._batch = place_batch(next(trainer.input.batches()), self._program.placement)

    def per_step(self, steps: int) -> Spent:
        state = self._program.initial_state()
        for _ in range(WARM_UP):
            state, _ = jax.block_until_ready(self._compiled.run(state, self._batch))
        start = Spent.now()
        for _ in range(steps):
            state, _ = self._compiled.run(state, self._batch)
        jax.block_until_ready(state)
        return Spent.now().per_step(start, steps)


def trained(cfg: Trainer.Config) -> tuple[Spent, float]:
    """Returns what a step of a whole run takes, and the part of it that waited for data."""
    arrivals = Arrivals()
    with tempfile.TemporaryDirectory() as folder:
        cfg.instantiate().run(Path(folder), progress=arrivals)
        spent = account(read_events(Path(folder))).seconds
    at, steps = arrivals.at, cfg.max_step - WARM_UP
    wait = spent["data_wait"] / (spent["data_wait"] + spent["step"])
    return at[cfg.max_step].per_step(at[WARM_UP], steps), wait


def ratios(times: dict[str, list[Spent]], of: str, every: int) -> dict[str, float]:
    """Returns medians of ratios within a round: what else the machine does falls on all of it."""
    found = {"without_saves": [], "saving": [], "": []}
    for bare, plain, saving in zip(times["bare"], times["plain"], times["saving"], strict=True):
        without, with_saves = (getattr(t, of) / getattr(bare, of) for t in (plain, saving))
        found["without_saves"].append(without)
        found["saving"].append(with_saves)
        found[""].append(without + (with_saves - without) * every / USUALLY_EVERY)
    prefix = "cpu_ratio" if of == "cpu" else "ratio"
    return {f"{prefix}_{k}".rstrip("_"): statistics.median(v) for k, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--every", type=int, default=10, help="Steps between checkpoints.")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as compiled:
        cfg = workload(args.work).set(max_step=args.steps + WARM_UP, compile_cache=compiled)
        saving = cfg.clone()
        saving.checkpoint.every = args.every
        bare, waits = Bare(cfg), []
        times: dict[str, list[Spent]] = {"bare": [], "plain": [], "saving": []}
        trained(cfg.clone(max_step=WARM_UP + 1))  # compiles
        for _ in range(args.rounds):
            times["bare"].append(bare.per_step(args.steps))
            for name, each in (("plain", cfg), ("saving", saving)):
                spent, wait = trained(each)
                times[name].append(spent)
                waits.append(wait)
    result = {
        "bare_s": statistics.median(t.wall for t in times["bare"]),
        "trainer_s": statistics.median(t.wall for t in times["plain"]),
        **ratios(times, "wall", args.every),
        **ratios(times, "cpu", args.every),
        "data_wait": statistics.median(waits),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
