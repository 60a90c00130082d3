"""Signals: the first one finishes the step and saves; nothing is lost."""

import os
import signal

import pytest

from axlearn_core.checkpoint import checkpoints
from axlearn_core.plugins import hookimpl
from axlearn_core.testing import tiny as tiny_module


class Signals:
    """A plugin that sends this process a signal after a step."""

    def __init__(self, number, step):
        self.number, self.step = number, step

    @hookimpl
    def axlearn_step_completed(self, event):
        if event.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 0, "preempted"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_finishes_the_step_and_saves(train, tmp_path, number, code, word):
    done = train(acme=Signals(number, 7), code=code)
    (saved,) = checkpoints(tmp_path / "run", verify=True)
    assert saved.status == "complete" and 7 <= saved.step <= 10
    assert f"{word} after step {saved.step} of 20; everything is saved" in done.out
    assert f"resuming from step {saved.step}" in train().out


def test_a_run_that_was_stopped_and_resumed_wrote_the_same_metrics(train, axl, tiny, tmp_path):
    train(acme=Signals(signal.SIGTERM, 7))
    train()
    axl("train", tiny, "--dir", "undisturbed")
    resumed, undisturbed = (tmp_path / name / "metrics.jsonl" for name in ("run", "undisturbed"))
    assert resumed.read_bytes() == undisturbed.read_bytes()


def test_a_signal_in_the_last_step_changes_nothing(train):
    done = train("log_every=1", acme=Signals(signal.SIGINT, 20))
    assert "done: step 20" in done.out


def test_the_handlers_are_put_back(train):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train("max_step=1")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_run_refuses_a_second_one_in_its_directory_and_a_second_ctrl_c_stops_it_at_once(
    start, train, tmp_path
):
    steps = ("input.seconds=0.5", "checkpoint.every=1")
    run = start("train", "slow:experiment", *steps, "--dir", "run")
    run.wait_until(lambda: (tmp_path / "run/checkpoints/00000001/manifest.json").exists())
    refused = train(code=1)
    assert f"another process (pid {run.process.pid}) is training in run." in refused.err
    run.send(signal.SIGINT).wait_for_line("press it again to stop at once")
    done = run.send(signal.SIGINT).finish()
    assert done.code == 130
    assert "Traceback" not in done.err
    assert "Ctrl-C again: stopped without saving" in done.out
    assert "everything is saved" not in done.out
    assert {info.status for info in checkpoints(tmp_path / "run", verify=True)} >= {"complete"}


def test_ctrl_c_in_any_other_command_is_one_line(axl, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny_module, "experiment", interrupted)
    done = axl("config", "show", "axlearn_core.testing.tiny:experiment")
    assert (done.code, done.err.strip()) == (130, "axl: interrupted")
