"""`axl` in several processes of this host, which find each other on loopback."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import NamedTuple

import pytest

from axlearn_core.drill.hosts import hosts as make_hosts
from axlearn_core.drill.hosts import why_no_hosts

GUARD = 300  # seconds after which a process that hangs is killed; no test waits for it to pass
# A step without end: what it computes is tiny's, and each batch takes a while.
SLOW = """
import time
from axlearn_core.testing import tiny

class SlowCounting(tiny.Counting):
    def batches(self, **place):
        return Slowly(super().batches(**place))

class Slowly:
    def __init__(self, batches):
        self.batches = batches
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __iter__(self):
        return self

    def __next__(self):
        time.sleep(0.05)
        return next(self.batches)

def experiment():
    cfg = tiny.experiment()
    cfg.model.vocab_size = 512  # a table of 1 MiB, which two replicas read one half of each
    cfg.input = SlowCounting.default_config().set(batch_size=8)
    return cfg.set(log_every=1, max_step=100_000, mesh_shape={"data": 2, "model": -1})
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Process:
    """One `axl`, in its own session."""

    def __init__(self, folder, words, environment, within=()):
        self._err = (folder / f"stderr-{environment.get('AXLEARN_PROCESS_INDEX', '')}").open("w+")
        self.process = subprocess.Popen(
            [*within, sys.executable, "-m", "axlearn_core.cli.main", *map(str, words)],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=self._err,
            text=True,
        )
        self._out = ""

    def wait_for_line(self, text):
        """Reads what the process says up to a line with this text."""
        line = ""
        while text not in line:
            line = self.process.stdout.readline()
            self._out += line
            assert line, self.finish()

    def send(self, number):
        self.process.send_signal(number)

    def finish(self):
        out, _ = self.process.communicate(timeout=GUARD)
        with self._err as err:
            err.seek(0)
            return Done(self.process.returncode, self._out + out, err.read())


def free_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def environment_of(index, count, coordinator):
    """One process joins, too: then it uses Gloo, which sums in another order than XLA alone."""
    flags = [f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f]
    return {
        "XLA_FLAGS": " ".join(flags),
        "JAX_NUM_CPU_DEVICES": str(8 // count),
        "AXLEARN_COORDINATOR": coordinator,
        "AXLEARN_PROCESS_COUNT": str(count),
        "AXLEARN_PROCESS_INDEX": str(index),
        "AXLEARN_PLACE": str(index),  # storage of its own, as if it had a host of its own
    }


@pytest.fixture
def start(tmp_path):
    """Starts `axl WORDS` in `count` processes with 8 devices together, in tmp_path.

    `different` changes words and variables of the last one. `within(index)` are the words of a
    program that starts a process somewhere else.
    """
    (tmp_path / "slow.py").write_text(SLOW)
    started = []

    def start(
        count, *words, different=None, coordinator=None, within=lambda index: (), **environment
    ):
        coordinator = coordinator or f"localhost:{free_port()}"
        processes = []
        for index in range(count):
            variables = {**environment_of(index, count, coordinator), **environment}
            own = words
            if different and index == count - 1:
                own, variables = different(words, variables)
            processes.append(Process(tmp_path, own, variables, within(index)))
            started.append(processes[-1])
        return processes

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.process.send_signal(signal.SIGKILL)
        process.process.wait()


@pytest.fixture
def train(start):
    """Trains in `count` processes to the end."""

    def train(count, *words, **options):
        return [process.finish() for process in start(count, "train", *words, **options)]

    return train


@pytest.fixture
def hosts():
    """Makes so many hosts, axl0, axl1, ..., on one switch.

    It gives a function of their count, which gives one from the number of a host to the words that
    run a program there.
    """
    if reason := why_no_hosts():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(make_hosts(count)).within
