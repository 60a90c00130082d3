"""A run's directory as training leaves it, without training."""

import json
from pathlib import Path
from typing import Any

import pytest


class Recorded:
    """Writes what a run writes."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True)
        self.time = 1_790_000_000.0  # of the last event
        self.session = 0

    def facts(self, **facts: Any) -> None:
        (self.path / "run.json").write_text(json.dumps(facts))

    def add(self, file_name: str, /, **record: Any) -> None:
        with (self.path / f"{file_name}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def event(self, event: str, step: int, *, after: float = 1.0, **fields: Any) -> None:
        """Adds an event that comes some seconds after the one before, all spent on steps."""
        self.time += after
        self.session += event == "session_started"
        if event == "session_started":
            self._began = self.time
        seconds = {"step": self.time - self._began}
        common = {"session": self.session, "step": step, "phase": "step", "seconds": seconds}
        self.add("events", time=self.time, event=event, **common, **fields)


@pytest.fixture
def recorded(tmp_path):
    """Begins a run in a folder of this name."""
    return lambda name="run": Recorded(tmp_path / name)


@pytest.fixture
def run(recorded):
    """Killed after step 30, gone on from step 20, completed at step 40."""
    run = recorded()
    run.facts(
        experiment="text.small",
        config={"max_step": "40", "seed": "0"},
        changes=["max_step: 600 -> 40 (override 1: max_step=40)"],
        plugins={"axlearn-core": "0.1.0"},
        versions={"jax": "0.10.2"},
    )
    for step in range(10, 50, 10):
        run.add("metrics", step=step, loss=5.0 - step / 10, gradient_norm=0.5, learning_rate=1e-3)
        run.add("performance", step=step, seconds_per_step=0.1, tokens_per_second=1000.0, mfu=0.4)
    run.add("metrics", step=40, **{"unseen/loss": 1.25, "unseen/tokens": 4096.0})
    run.event("session_started", 0, host="a", devices="2 x cpu", processes=1, max_step=40)
    run.event("resumed", 0, from_step=0)
    run.event("compiled", 0, trace_seconds=0.5, compile_seconds=1.5, memory_bytes=2**20)
    run.event("checkpoint_started", 20, after=20.0, stall_seconds=0.1)
    run.event("checkpoint_saved", 20, saved_step=20, path="checkpoints/00000020")
    run.event("beat", 30, after=10.0)
    run.event("session_started", 0, after=16.0, host="b", devices="2 x cpu", max_step=40)
    run.event("fault", 20, kind="checkpoint_damaged", message="step 30: a file is <truncated>")
    run.event("resumed", 20, from_step=20)
    run.event("compiled", 20, trace_seconds=0.5, compile_seconds=1.5, memory_bytes=None)
    run.event("beat", 30, after=10.0)
    run.event("evaluated", 40, after=10.0, name="unseen", loss=1.25, seconds_taken=1.0)
    run.event("session_finished", 40, reason="completed")
    return run
