"""What a terminal and a log show."""

import io

import pytest

from axlearn_core.observe import progress as module
from axlearn_core.observe.progress import Progress, count, duration, size


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """The lines that a reader sees: a line that was cleared is gone."""
        lines = self.getvalue().split("\n")
        return [line.rpartition("\r\x1b[2K")[2] for line in lines]


@pytest.fixture
def clock(monkeypatch):
    """Makes a second pass at each look at the clock."""
    seconds = iter(range(1, 1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(seconds)))


def test_a_terminal_redraws_the_line_of_a_step_in_place(clock):
    stream = Terminal()
    progress = Progress(10, stream)
    for step in (1, 2, 3):
        progress.step(step, {"loss": f"{step}.0"}, logged=False)
    assert stream.screen() == ["step  3/10  loss 3.0"]


def test_a_logged_step_and_a_message_stay_on_the_terminal(clock):
    stream = Terminal()
    progress = Progress(10, stream)
    progress.step(1, {"loss": "1.0"}, logged=False)
    progress.step(2, {"loss": "2.0"}, logged=True)
    progress.step(3, {"loss": "3.0"}, logged=False)
    progress.say("saved")
    assert stream.screen() == ["step  2/10  loss 2.0", "saved", ""]


def test_a_terminal_is_not_drawn_at_every_fast_step(monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.0)
    stream = Terminal()
    progress = Progress(10, stream)
    for step in (1, 2, 3):
        progress.step(step, {"loss": "1.0"}, logged=False)
    assert stream.screen() == ["step  1/10  loss 1.0"]


def test_a_log_shows_logged_steps_only_and_no_control_characters():
    stream = io.StringIO()
    progress = Progress(100, stream)
    progress.step(1, {"loss": "1.0"}, logged=False)
    progress.step(2, {"loss": "2.0", "lr": "3e-4"}, logged=True)
    assert stream.getvalue() == "step   2/100  loss 2.0  lr 3e-4\n"


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (999_999, "1000k"),
        (1.25e6, "1.25M"),
        (7e9, "7B"),
        (1.5e12, "1.5T"),
    ],
)
def test_counts_are_brief(value, text):
    assert count(value) == text


@pytest.mark.parametrize(
    "value, text", [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), (1536 << 20, "1.5 GiB")]
)
def test_sizes_are_brief(value, text):
    assert size(value) == text


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s"), (59.4, "59s"), (59.6, "1:00"), (185, "3:05"), (7800, "2:10:00")]
)
def test_durations_are_brief(seconds, text):
    assert duration(seconds) == text
