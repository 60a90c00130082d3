"""The watchdog, on a clock of the test's own."""

import pytest

from axlearn_core.config import ConfigError
from axlearn_core.errors import EXIT_HUNG
from axlearn_core.guards.watchdog import Watchdog


class Time:
    """A clock, a watchdog that looks at it, and the code with which it ended the process."""

    def __init__(self, directory, timeout=100.0):
        self.now, self.code, self.faults = 1000.0, None, []
        self.dog = Watchdog.Config(timeout=timeout).instantiate(
            directory=directory,
            clock=lambda: self.now,
            end=self.end,
            fault=lambda *what: self.faults.append(what),
        )
        self.dog.alive(0)

    def end(self, code):
        self.code = code

    def passes(self, seconds, looks=20):
        for _ in range(looks):
            self.now += seconds / looks
            self.dog.look()


@pytest.fixture
def time(tmp_path):
    return Time(tmp_path)


def test_nothing_happens_while_steps_are_finished(time):
    for step in range(50):
        time.passes(90)
        time.dog.alive(step)
    assert time.code is None


def test_after_the_timeout_the_process_ends_with_a_code_of_its_own(time):
    time.dog.alive(7)
    time.passes(99)
    assert time.code is None
    time.passes(2, looks=1)
    assert time.code == EXIT_HUNG == 75


def test_the_stacks_and_the_last_step_are_printed_and_kept(time, tmp_path, capfd):
    time.dog.alive(7)
    time.passes(102)
    kept = (tmp_path / "faults/stacks-of-process-0.txt").read_text()
    for text in (kept, capfd.readouterr().err):
        assert "nothing was finished for 100 s" in text
        assert "the last step known to be finished is 7" in text
        assert "test_watchdog.py" in text and "in passes" in text
    ((kind, message),) = time.faults
    assert kind == "hang" and message in text


def test_time_in_which_the_process_was_stopped_does_not_count(time):
    time.passes(50)
    time.passes(3600, looks=1)  # one look after an hour: nobody could look in between
    time.passes(30)
    assert time.code is None
    time.passes(20)
    assert time.code == EXIT_HUNG


def test_a_folder_that_cannot_be_written_does_not_keep_the_process(tmp_path):
    (tmp_path / "faults").write_text("")
    time = Time(tmp_path)
    time.passes(102)
    assert time.code == EXIT_HUNG


def test_without_a_timeout_there_is_no_thread(tmp_path):
    dog = Watchdog.Config(timeout=None).instantiate(directory=tmp_path)
    dog.start(0)
    assert not dog._thread.is_alive()
    dog.close()


def test_closing_ends_the_thread(tmp_path):
    dog = Watchdog.Config(timeout=1e6).instantiate(directory=tmp_path)
    dog.start(0)
    assert dog._thread.is_alive()
    dog.close()
    assert not dog._thread.is_alive()


def test_a_timeout_that_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be above 0, or null"):
        Watchdog.Config(timeout=0.0).instantiate(directory=tmp_path)
