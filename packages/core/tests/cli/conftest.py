"""`axl` in this process (jax is imported once), and in processes of its own where it must end."""

import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

from axlearn_core import _plugin
from axlearn_core.cli.main import main
from axlearn_core.testing.registries import isolated_registry

TINY = "axlearn_core.testing.tiny:experiment"


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def tiny():
    return TINY


@pytest.fixture
def axl(tmp_path, monkeypatch, capfd):
    """Runs axl in an empty folder with core's plugin, and those given by distribution name."""
    monkeypatch.chdir(tmp_path)

    def axl(*words, records=(), **plugins):
        with isolated_registry(*records, axlearn_core=_plugin, **plugins):
            code = main([str(word) for word in words])
        return Done(code, *capfd.readouterr())

    return axl


@pytest.fixture
def train(axl):
    """Trains the tiny experiment in the folder `run` and expects an exit code."""

    def train(*words, code=0, **plugins):
        done = axl("train", TINY, "--dir", "run", *words, **plugins)
        assert done.code == code, done
        return done

    return train


SLOW = """
import time
from axlearn_core.testing import tiny

class SlowCounting(tiny.Counting):
    class Config(tiny.Counting.Config):
        seconds: float = 0.005  # per batch

    def batches(self, **place):
        return Slowly(super().batches(**place), self.config.seconds)

class Slowly:
    def __init__(self, batches, seconds):
        self.batches, self.seconds = batches, seconds
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __iter__(self):
        return self

    def __next__(self):
        time.sleep(self.seconds)
        return next(self.batches)

def experiment():
    cfg = tiny.experiment()
    cfg.input = SlowCounting.default_config().set(batch_size=8)
    cfg.checkpoint.every = 5
    cfg.evaluations["held_out"].every = 10
    return cfg.set(max_step=60, log_every=1)
"""


class Process:
    """`axl` in a process of its own, in a folder with the module `slow`."""

    def __init__(self, folder, *words):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "axlearn_core.cli.main", *map(str, words)],
            cwd=folder,
            env={**os.environ, "XLA_FLAGS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until(self, condition):
        """Polls until a condition holds; fails when the process ends before."""
        while not condition():
            assert self.process.poll() is None, self.finish()
            time.sleep(0.001)

    def wait_for_line(self, text):
        """Reads what the process says up to a line with this text."""
        while text not in (line := self.process.stdout.readline()):
            assert line, self.finish()

    def send(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self

    def finish(self):
        out, err = self.process.communicate(timeout=120)
        return Done(self.process.returncode, out, err)


@pytest.fixture
def start(tmp_path):
    """Starts axl in a process of its own, in tmp_path."""
    (tmp_path / "slow.py").write_text(SLOW)
    started = []

    def start(*words):
        started.append(Process(tmp_path, *words))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.send().finish()
