"""A real process that hangs, and the run that goes on after it."""

import os
import subprocess
import sys

from axlearn_core.cli.main import main
from axlearn_core.errors import EXIT_HUNG
from axlearn_core.observe.events import read_events

SECONDS = 300  # far beyond what a process takes, so that a test that hangs comes to its end
COMMAND = ("train", "axlearn_core.testing.faults:experiment", "--dir", "run")


def train(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "axlearn_core.cli.main", *COMMAND, *words],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_a_run_that_hangs_ends_with_its_stacks_and_goes_on_when_it_is_started_again(
    tmp_path, monkeypatch, capfd
):
    words = ("checkpoint.every=3", "max_step=12")
    hangs = ("input.hangs_at=7", "guards.input_timeout=null", "guards.watchdog.timeout=10")
    hung = train(tmp_path, *words, *hangs)
    assert hung.returncode == EXIT_HUNG, hung
    assert "nothing was finished for 10 s" in hung.stderr
    stacks = (tmp_path / "run/faults/stacks-of-process-0.txt").read_text()
    for text in (hung.stderr, stacks):
        assert "testing/faults.py" in text and "training/trainer.py" in text
    (fault,) = [e for e in read_events(tmp_path / "run") if e["event"] == "fault"]
    assert fault["kind"] == "hang" and "the last step known to be finished" in fault["message"]
    # `hangs_at` is a part of the config, so that mending it is a change of that.
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, *words, "--accept-changes"]) == 0
    said = capfd.readouterr().out
    assert "changed since the last session: input.hangs_at: 7 -> null" in said
    assert "resuming from step " in said and "done: step 12" in said
