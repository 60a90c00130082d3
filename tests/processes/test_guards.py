"""What watches over a run of two processes: both say the same, and neither waits for the other."""

import json

import pytest

GUARDED = """
import os

from axlearn_core.testing import faults, tiny
from axlearn_core.training.program import Program

second = os.environ.get("AXLEARN_PROCESS_INDEX") == "1"


class Around(tiny.Counting):
    # Without the batches 4, 5 and 6.
    def batches(self, **place):
        batches = super().batches(**place)
        advance = batches.__class__.__next__

        class Stream(batches.__class__):
            def __next__(self):
                if self._made == 4:
                    self._made = 7
                return advance(self)

        batches.__class__ = Stream
        return batches


def experiment():
    cfg = faults.experiment().set(max_step=12, mesh_shape={"data": -1})
    cfg.checkpoint.every = 4
    return cfg


def around():
    return experiment().set(input=Around.default_config().set(batch_size=8))


def struck():
    # A batch without a finite loss is gone around; later a bit flips in the second process.
    cfg = experiment()
    cfg.guards.numbers.policy = "rewind"
    cfg.guards.corruption.replicas_every = 3
    cfg.input.nan_at = [6]
    if second:
        compile_step = Program._compile_train_step

        def compiled(self, batch_shape):
            made = compile_step(self, batch_shape)

            def run(state, batch):
                step = int(state.step)
                state, metrics = made.run(state, batch)
                if step == 9:
                    flipped = faults.flip_bit(state.params["table"], device=1)
                    state.params["table"] = flipped
                return state, metrics

            return made._replace(run=run)

        Program._compile_train_step = compiled
    return cfg


class OneReader(faults.FaultyCounting):
    # Whose disk only the second process has lost.
    def __init__(self, config):
        super().__init__(config.clone(raises_at=5) if second else config)


def reading():
    return experiment().set(input=OneReader.default_config().set(batch_size=8))
"""


@pytest.fixture
def two(train, tmp_path):
    """Trains one of the experiments above in two processes of two devices each."""
    (tmp_path / "guarded.py").write_text(GUARDED)

    def two(name, count=2, **options):
        words = (f"guarded:{name}", "--dir", name)
        return train(count, *words, JAX_NUM_CPU_DEVICES=str(4 // count), **options)

    return two


def test_a_rewind_and_a_flipped_bit_are_seen_by_both_and_named(two, tmp_path):
    """The steps between have the bits of a run that never had the window around the bad batch."""
    first, second = two("struck")
    assert "Going back to the last checkpoint" in first.out
    assert "resuming from step 4" in first.out
    for done in (first, second):
        assert done.code == 1
        assert "step 12: devices that must hold the same bits do not" in done.err
        assert "(cpu, process 1) differs from the 3 others" in done.err
    kept = {file.name for file in (tmp_path / "struck/faults/00000007").iterdir()}
    assert kept == {"offence.json", "batch-of-process-0.npz", "batch-of-process-1.npz"}
    events = map(json.loads, (tmp_path / "struck/events.jsonl").read_text().splitlines())
    told = [event for event in events if event["event"] in ("fault", "session_finished")]
    assert [event.get("kind") for event in told] == ["rewind", None]
    assert "process 1) differs" in told[-1]["reason"]

    assert two("around", count=1)[0].code == 0
    found, expected = (
        (tmp_path / name / "metrics.jsonl").read_bytes().splitlines()[:9]
        for name in ("struck", "around")
    )
    assert found == expected and len(found) == 9


def test_a_reader_that_fails_in_one_process_ends_both_and_says_why(two):
    first, second = two("reading", AXLEARN_HEARTBEAT_TIMEOUT="10")
    assert second.code == 1 and "the disk is gone" in second.err
    assert first.code != 0
