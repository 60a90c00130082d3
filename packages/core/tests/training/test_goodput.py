"""Where the time of a run went, from its events."""

import json
import subprocess
import sys
from time import time as wall_clock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.observe.clock import Clock
from axlearn_core.observe.events import read_events
from axlearn_core.observe.goodput import CATEGORIES, PHASES, account


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def clock(tmp_path, time):
    """Makes the clock of a session that begins now, as a run's directory knows it."""
    return lambda: Clock(tmp_path, monotonic=time, now=time)


def spend(clock, time, **phases):
    for phase, seconds in phases.items():
        with clock.phase(phase):
            time.now += seconds


def begin(clock, time, *, from_step, init=3.0, compiling=5.0):
    """A session up to its first step."""
    session = clock()
    spend(session, time, init=init / 2)
    session.record("session_started")
    spend(session, time, init=init / 2)
    session.step = from_step
    session.record("resumed", from_step=from_step)
    spend(session, time, compile=compiling)
    session.record("compiled")
    return session


def train(session, time, to_step, *, saving=()):
    """Steps of a second that wait 0.1 s for data; a save holds them up for 0.5 s."""
    for step in range(session.step + 1, to_step + 1):
        spend(session, time, data_wait=0.1, step=1.0)
        session.step = step
        if step in saving:
            spend(session, time, checkpoint=0.5)
            session.record("checkpoint_started")
    session.record("beat")


def spent(tmp_path):
    """The categories that are not empty."""
    seconds = account(read_events(tmp_path)).seconds
    return {name: pytest.approx(s) for name, s in seconds.items() if s > 1e-9}


def test_a_session_is_its_phases(clock, time, tmp_path):
    session = begin(clock, time, from_step=0)
    train(session, time, 10, saving=[10])
    spend(session, time, eval=2.0)
    session.record("session_finished", reason="completed")
    assert spent(tmp_path) == {
        "init": 3.0,
        "compile": 5.0,
        "data_wait": 1.0,
        "step": 10.0,
        "eval": 2.0,
        "checkpoint": 0.5,
    }


def test_what_a_killed_session_did_after_its_checkpoint_is_lost_once_another_goes_on(
    clock, time, tmp_path
):
    train(begin(clock, time, from_step=0), time, 10, saving=[4, 8])
    assert "lost_work" not in spent(tmp_path)  # the last checkpoint may still be completed
    time.now += 20.0
    session = begin(clock, time, from_step=4)  # the one of step 8 was not complete
    train(session, time, 12)
    session.record("session_finished", reason="completed")
    assert spent(tmp_path) == {
        "init": 3.0,
        "compile": 5.0,
        "step": 4.0 + 8.0,
        "data_wait": 0.4 + 0.8,
        "checkpoint": 0.5,
        "lost_work": 6 * 1.1 + 0.5,
        "recovery": 8.0,
        "idle": 20.0,
    }


def test_a_damaged_checkpoint_loses_the_work_of_earlier_sessions_too(clock, time, tmp_path):
    train(begin(clock, time, from_step=0), time, 8, saving=[4, 8])
    train(begin(clock, time, from_step=8), time, 10)
    train(begin(clock, time, from_step=4), time, 5)
    assert spent(tmp_path)["step"] == 4.0 + 0.0 + 1.0
    assert spent(tmp_path)["lost_work"] == 4 * 1.1 + 0.5 + 2 * 1.1
    assert spent(tmp_path)["recovery"] == 16.0


def test_a_run_without_any_checkpoint_loses_everything(clock, time, tmp_path):
    train(begin(clock, time, from_step=0), time, 7)
    train(begin(clock, time, from_step=0), time, 2)
    assert spent(tmp_path)["lost_work"] == 7 * 1.1
    assert spent(tmp_path)["step"] == 2.0


@pytest.mark.parametrize("reason", ["preempted", "interrupted"])
def test_a_session_that_saved_at_its_end_loses_nothing_and_its_successor_recovers_nothing(
    clock, time, tmp_path, reason
):
    session = begin(clock, time, from_step=0)
    train(session, time, 5, saving=[5])
    spend(session, time, checkpoint=2.0)  # waiting until it is complete
    session.record("session_finished", reason=reason)
    time.now += 60.0
    train(begin(clock, time, from_step=5), time, 6)
    assert not spent(tmp_path).keys() & {"lost_work", "recovery"}
    assert spent(tmp_path)["idle"] == 60.0
    assert spent(tmp_path)["checkpoint"] == 2.5


def test_the_start_after_a_failure_is_recovery(clock, time, tmp_path):
    session = begin(clock, time, from_step=0)
    train(session, time, 5, saving=[5])
    session.record("session_finished", reason="failed: no such disk")
    train(begin(clock, time, from_step=5), time, 6)
    assert spent(tmp_path)["recovery"] == 8.0
    assert "lost_work" not in spent(tmp_path)


def test_a_complete_run_does_not_idle_until_somebody_raises_max_step(clock, time, tmp_path):
    session = begin(clock, time, from_step=0)
    train(session, time, 5, saving=[5])
    session.record("session_finished", reason="completed")
    time.now += 1e6
    train(begin(clock, time, from_step=5), time, 6)
    assert "idle" not in spent(tmp_path)


def test_goodput_is_the_share_of_kept_steps(clock, time, tmp_path):
    train(begin(clock, time, from_step=0), time, 10, saving=[10])
    found = account(read_events(tmp_path))
    assert found.goodput == pytest.approx(10 / (3 + 5 + 11 + 0.5))


def test_no_events_are_no_time():
    assert account([]) == (dict.fromkeys(CATEGORIES, 0.0),)
    assert account([]).goodput == 0.0


durations = st.floats(0, 1e5, allow_nan=False)
session = st.tuples(
    st.lists(st.tuples(st.sampled_from(PHASES), durations), max_size=8),
    durations,  # until the next session
    st.integers(0, 20),  # the step that it goes on from
    st.sampled_from([None, "preempted", "failed: x"]),
)


@settings(max_examples=25, deadline=None)
@given(sessions=st.lists(session, min_size=1, max_size=5))
def test_the_categories_add_up_to_the_time_that_passed(sessions, tmp_path_factory):
    time, run = Time(), tmp_path_factory.mktemp("run")
    for phases, pause, from_step, reason in sessions:
        current = begin(lambda: Clock(run, monotonic=time, now=time), time, from_step=from_step)
        for number, (phase, seconds) in enumerate(phases):
            spend(current, time, **{phase: seconds})
            current.step += 1
            current.record("checkpoint_started" if number % 2 else "beat")
        if reason:
            current.record("session_finished", reason=reason)
        ended = time.now
        time.now += pause
    found = account(read_events(run))
    # Events hold microseconds.
    assert found.wall == pytest.approx(ended - 1000.0, abs=1e-4)
    assert min(found.seconds.values()) > -1e-4


# The clock.


def test_a_phase_inside_another_interrupts_it(clock, time):
    session = clock()
    with session.phase("step"):
        time.now += 1.0
        spend(session, time, eval=2.0)
        time.now += 4.0
    time.now += 8.0
    assert session.seconds() == {"init": 8.0, "step": 5.0, "eval": 2.0}


def test_what_a_process_did_before_belongs_to_the_start(tmp_path, time):
    session = Clock(tmp_path, began=time.now - 7.0, monotonic=Time(5.0), now=time)
    session.record("session_started")
    assert session.seconds() == {"init": 7.0}
    (event,) = read_events(tmp_path)
    assert event["time"] == time.now


def test_a_process_began_before_now_and_after_its_parent(tmp_path):
    code = "from axlearn_core.observe.clock import process_began; print(process_began())"
    before = wall_clock()
    began = float(subprocess.check_output([sys.executable, "-c", code]))
    assert before - 0.1 <= began <= wall_clock()  # Linux counts in hundredths of a second


def test_an_exception_leaves_the_phase(clock, time):
    session = clock()
    with pytest.raises(OSError), session.phase("eval"):
        time.now += 1.0
        raise OSError
    time.now += 1.0
    assert session.seconds() == {"init": 1.0, "eval": 1.0}


def test_waiting_counts_the_time_between_asking_and_getting(clock, time):
    def slow():
        for item in range(3):
            time.now += 0.5
            yield item

    session, got = clock(), []
    with session.phase("step"):
        for item in session.waiting(slow()):
            time.now += 2.0
            got.append(item)
    assert got == [0, 1, 2]
    assert session.seconds() == {"init": 0.0, "step": 6.0, "data_wait": 1.5}


def test_an_error_of_what_is_waited_for_arrives(clock):
    def broken():
        yield 1
        raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk"):
        list(clock().waiting(broken()))


def test_goodput_while_a_run_goes_on_is_that_of_its_account(clock, time):
    train(begin(clock, time, from_step=0), time, 10, saving=[4])
    time.now += 20.0
    session = begin(clock, time, from_step=4)
    for step in (6, 9):
        train(session, time, step)
        assert session.goodput() == pytest.approx(session.account().goodput)


def test_a_session_exports_its_account(clock, time, tmp_path):
    session = clock()
    with session.session(experiment="a"):
        spend(session, time, init=1.0, step=3.0)
    exported = json.loads((tmp_path / "goodput.json").read_text())
    assert exported["goodput"] == 0.75
    assert exported["wall"] == 4.0
    assert list(exported["seconds"]) == list(CATEGORIES)


def test_a_failure_ends_a_session_with_its_message(clock, tmp_path):
    session = clock()
    with pytest.raises(OSError), session.session():
        raise OSError("no such disk")
    started, finished = (e for e in read_events(tmp_path) if e["event"] != "beat")
    assert started["event"] == "session_started"
    assert finished["event"] == "session_finished"
    assert finished["reason"] == "failed: no such disk"


def test_a_process_that_is_not_the_first_counts_and_writes_nothing(time, tmp_path):
    silent = Clock(None, monotonic=time, now=time)
    with silent.session():
        spend(silent, time, step=1.0)
    assert silent.account().goodput == 1.0
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_a_kill_cut_short_costs_no_other(clock, tmp_path):
    clock().record("session_started")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 10')
    clock().record("session_started")
    assert [event["session"] for event in read_events(tmp_path)] == [1, 2]


def test_a_full_disk_costs_events_and_never_the_run(clock, tmp_path, caplog):
    session = clock()
    (tmp_path / "events.jsonl").mkdir()  # nothing can be written there
    session.record("beat")
    session.record("beat")
    assert len(caplog.messages) == 1
    (tmp_path / "events.jsonl").rmdir()
    session.record("beat")
    assert len(read_events(tmp_path)) == 1
