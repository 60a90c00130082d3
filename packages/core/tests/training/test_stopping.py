"""Signals that end a run well."""

import contextlib
import os
import signal
import threading

import pytest

from axlearn_core.training.stopping import stopping_on_signals


@pytest.fixture
def said():
    return []


@pytest.mark.parametrize(
    "number, reason", [(signal.SIGTERM, "preempted"), (signal.SIGINT, "interrupted")]
)
def test_a_signal_sets_the_reason_and_is_answered_at_once(said, number, reason):
    with stopping_on_signals(said.append) as stop:
        stop.stepping = True
        assert not stop.reached(1)
        os.kill(os.getpid(), number)
        assert stop.reached(1)
        assert stop.reason == reason
    assert len(said) == 1
    assert "finishing this step" in said[0]


def test_before_the_first_step_ctrl_c_ends_at_once(said):
    with pytest.raises(KeyboardInterrupt), stopping_on_signals(said.append):
        os.kill(os.getpid(), signal.SIGINT)
    assert said == ["SIGINT before the first step: nothing to save"]


def test_before_the_first_step_sigterm_ends_the_process_well(said, monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with contextlib.suppress(KeyboardInterrupt), stopping_on_signals(said.append):
        os.kill(os.getpid(), signal.SIGTERM)
    assert codes == [0]
    assert said == ["SIGTERM before the first step: nothing to save"]


def test_the_first_reason_counts(said):
    with stopping_on_signals(said.append) as stop:
        stop.stepping = True
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.reason == "interrupted"


def test_a_signal_that_comes_while_a_line_is_written_stops_all_the_same():
    def busy(message):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    with stopping_on_signals(busy) as stop:
        stop.stepping = True
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.reason == "preempted"


def test_afterwards_signals_do_what_they_did_before(said):
    before = signal.getsignal(signal.SIGINT)
    with stopping_on_signals(said.append):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_in_another_thread_signals_are_left_alone(said):
    seen = []

    def run():
        before = signal.getsignal(signal.SIGINT)
        with stopping_on_signals(said.append) as stop:
            seen.append((signal.getsignal(signal.SIGINT) == before, stop.reached(1)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(True, False)]
