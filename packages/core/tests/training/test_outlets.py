"""Writers that fail."""

import errno
import json
import os
from types import SimpleNamespace

import pytest

from axlearn_core.errors import UserError
from axlearn_core.observe import line_file
from axlearn_core.observe.outlets import MAX_FAILURES, Outlets
from axlearn_core.observe.writers import JsonlWriter, Writer


class Flaky(Writer):
    """Fails when it is to write a step in `bad`."""

    class Config(Writer.Config):
        bad: list[int] = []

    def open(self, directory, *, after_step):
        self.wrote = []

    def write(self, step, kind, values):
        if step in self.config.bad:
            raise ConnectionError("no such host")
        self.wrote.append(step)


class Closed(Writer):
    """Cannot be opened."""

    class Config(Writer.Config):
        mendable: bool = False

    def open(self, directory, *, after_step):
        raise UserError("pip install it") if self.config.mendable else OSError("port in use")


@pytest.fixture
def outlets(tmp_path):
    def outlets(*configs):
        writers = [config.instantiate() for config in configs]
        said = []
        made = Outlets(writers, said.append)
        made.open(tmp_path, after_step=0)
        return made, writers, said

    return outlets


@pytest.fixture
def disk(monkeypatch):
    """Takes nothing while it is full."""
    disk, pwrite = SimpleNamespace(full=False), os.pwrite

    def write(file, data, offset):
        if disk.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    return disk


def write(outlets, steps):
    for step in steps:
        outlets.write(step, "train", {"loss": 1.0})
    outlets.close()


def test_a_failing_writer_is_told_and_stops_neither_the_run_nor_the_others(outlets):
    made, (bad, good), said = outlets(Flaky.Config(bad=[2]), Flaky.Config())
    write(made, range(1, 5))
    assert (bad.wrote, good.wrote) == ([1, 3, 4], [1, 2, 3, 4])
    assert said == ["Flaky failed: ConnectionError: no such host"]


def test_a_writer_that_keeps_failing_is_not_called_again(outlets):
    made, (bad,), said = outlets(Flaky.Config(bad=[1, 2, 3]))
    write(made, range(1, 6))
    assert bad.wrote == []
    assert len(said) == MAX_FAILURES
    assert said[-1].endswith("It is not called again in this run")


def test_a_writer_that_cannot_be_opened_is_left_out(outlets):
    made, _, said = outlets(Closed.Config())
    write(made, [1])
    assert len(said) == 1 and "port in use" in said[0]


def test_what_the_user_can_mend_ends_the_run_before_it_begins(outlets):
    with pytest.raises(UserError, match="pip install it"):
        outlets(Closed.Config(mendable=True))


def test_only_what_was_opened_is_closed(tmp_path):
    closed = []

    class Told(Flaky):
        def close(self):
            closed.append(self)

    never = Outlets([Told.Config().instantiate()], print)
    never.close()
    assert closed == []
    half = Outlets([Told.Config().instantiate(), Closed.Config(mendable=True).instantiate()], print)
    with pytest.raises(UserError):
        half.open(tmp_path, after_step=0)
    half.close()
    assert len(closed) == 1


def test_metrics_that_cannot_be_written_wait_and_are_told_once(outlets, disk, tmp_path):
    made, _, said = outlets(JsonlWriter.Config())
    made.write(1, "train", {"loss": 1.0})
    disk.full = True
    for step in (2, 3):
        made.write(step, "train", {"loss": 1.0})
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: No space left on device"):
        made.flush()
    disk.full = False
    write(made, [4])
    (line,) = said
    assert line.startswith(f"cannot write {tmp_path}/metrics.jsonl: No space left on device. Train")
    records = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [record["step"] for record in records] == [1, 2, 3, 4]


def test_of_more_records_than_may_wait_the_run_is_told_the_end(outlets, disk, monkeypatch):
    monkeypatch.setattr(line_file, "_MOST", 100)
    made, _, _ = outlets(JsonlWriter.Config())
    disk.full = True
    with pytest.raises(UserError, match="cannot write"):
        write(made, range(1, 9))
