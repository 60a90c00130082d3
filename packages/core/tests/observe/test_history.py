import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from axlearn_core.cli.report_page import page
from axlearn_core.cli.watch_view import frame
from axlearn_core.observe.goodput import account
from axlearn_core.observe.history import RunReader, is_run
from axlearn_core.observe.sessions import describe, is_fault, is_over, sessions, state_of


def read(recorded):
    return RunReader(recorded.path).read()


def test_everything_that_a_run_left_is_found(run):
    found = read(run)
    assert (found.experiment, found.step, found.max_step) == ("text.small", 40, 40)
    assert list(found.train["loss"].values) == [4.0, 3.0, 2.0, 1.0]
    assert list(found.performance["mfu"].steps) == [10, 20, 30, 40]
    assert found.evaluations["unseen"]["loss"].last == 1.25
    assert found.changes == ["max_step: 600 -> 40 (override 1: max_step=40)"]
    assert found.versions == {"axlearn-core": "0.1.0", "jax": "0.10.2"}
    assert found.remarks == []


def test_a_run_is_followed_while_it_grows(run):
    reader = RunReader(run.path)
    assert reader.read().step == 40
    run.add("metrics", step=50, loss=0.5)
    assert reader.read().train["loss"].last == 0.5


def test_steps_that_are_made_again_count_once_and_as_the_last_time(recorded):
    run = recorded()
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5)):
        run.add("metrics", step=step, loss=loss)
    assert list(read(run).train["loss"].values) == [3.0, 2.5]


def test_what_a_resumed_run_dropped_from_its_file_is_forgotten(recorded):
    run = recorded()
    run.add("metrics", step=1, loss=2.0)
    run.add("metrics", step=2, **{"unseen/loss": 1.0})
    reader = RunReader(run.path)
    assert "unseen" in reader.read().evaluations
    (run.path / "metrics.jsonl").write_text("")
    assert reader.read().evaluations == {}


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        ("oops\n", "metrics.jsonl: 1 damaged line left out"),
        ('{"loss": 1.0}\n', "metrics.jsonl: 1 damaged line left out"),
        ('{"step": 5, "loss": "low"}\n', "metrics.jsonl: 1 damaged line left out"),
        ('{"step": -5, "loss": 1.0}\n', "metrics.jsonl: 1 damaged line left out"),
        ('{"step": 5, "lo', "metrics.jsonl: its last line has no end (being written, or cut"),
    ],
)
def test_damage_is_counted_and_what_is_whole_is_read(run, line, remark):
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(line)
    found = read(run)
    assert found.train["loss"].last == 1.0
    assert found.remarks[0].startswith(remark)


@pytest.mark.parametrize("text", ["", "[]", '{"config": 3, "changes": {}}'])
def test_a_damaged_run_json_costs_what_was_in_it_and_no_more(run, text):
    (run.path / "run.json").write_text(text)
    found = read(run)
    assert found.config == {} and found.changes is None
    assert found.train["loss"].last == 1.0


def test_a_directory_without_a_run_is_none(tmp_path, run):
    assert is_run(run.path)
    assert not is_run(tmp_path) and not is_run(tmp_path / "nowhere")


def test_beats_of_weeks_are_thinned_out_and_the_time_stays_accounted_for(recorded):
    run = recorded()
    run.event("session_started", 0)
    for step in range(5000):
        run.event("beat", step)
    found = read(run)
    assert len(found.events) <= 1002
    assert found.events[-1]["step"] == 4999
    assert account(found.events).seconds["step"] == pytest.approx(5000)


def test_sessions_tell_how_they_ended(run):
    first, second = sessions(read(run).events, run.time)
    assert (first.state, first.detail, first.first_step, first.last_step) == (
        *("killed", "during step"),
        *(0, 30),
    )
    assert (second.state, second.first_step, second.last_step) == ("completed", 20, 40)
    assert second.machine == "2 x cpu, b"


@pytest.mark.parametrize(
    ("later", "state"), [(5.0, "running"), (59.0, "running"), (61.0, "silent"), (1e6, "silent")]
)
def test_a_run_that_gave_no_sign_of_life_for_a_minute_is_called_silent(recorded, later, state):
    run = recorded()
    run.event("session_started", 0)
    assert state_of(read(run), run.time + later)[0] == state
    assert not is_over(read(run), run.time + later)


def test_a_failed_session_is_a_fault_and_says_why(recorded):
    run = recorded()
    run.event("session_started", 0)
    run.event("session_finished", 7, reason="failed: step 7: the loss is nan")
    found = read(run)
    assert state_of(found, run.time) == ("failed", "step 7: the loss is nan")
    assert is_over(found, run.time)
    assert [describe(event) for event in found.events if is_fault(event)] == [
        "session ended: failed: step 7: the loss is nan"
    ]


def test_a_run_without_events_tells_whether_it_came_to_its_end(recorded):
    run = recorded()
    run.facts(experiment="old", config={"max_step": "2"})
    run.add("metrics", step=1, loss=2.0)
    assert state_of(read(run), 0.0)[0] == "unfinished"
    run.add("metrics", step=2, loss=1.0)
    assert state_of(read(run), 0.0)[0] == "completed"


def test_events_are_told_in_words(run):
    assert [describe(e) for e in read(run).events if e["event"] != "beat"] == [
        "session 1 started on 2 x cpu",
        "started from scratch",
        "compiled in 2.0 s, needs 1 MiB per device",
        "checkpoint started",
        "saved a checkpoint of step 20",
        "session 2 started on 2 x cpu",
        "checkpoint damaged: step 30: a file is <truncated>",
        "resumed from step 20",
        "compiled in 2.0 s",
        "evaluated unseen: loss 1.2500",
        "session ended: completed",
    ]


def test_a_text_cannot_steer_the_terminal(recorded):
    run = recorded()
    run.facts(experiment="\x1b[2Jgone")
    run.event("session_started", 0, devices="\x1b[31m")
    found = read(run)
    assert "\x1b" not in found.experiment + describe(found.events[0])


_odd = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 7, -1, 2**53, 10**400]),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["step", "x"]), st.floats(), max_size=2),
)
_names = ["step", "time", "event", "session", "phase", "seconds", "loss", "unseen/loss", "reason"]
_names += ["from_step", "mfu", "tokens_per_second", "seconds_per_step", "memory_bytes", "changes"]
_kinds = ["session_started", "resumed", "compiled", "beat", "evaluated", "fault", "other"]
_records = st.dictionaries(st.sampled_from(_names), _odd, max_size=9)
_events = st.fixed_dictionaries(
    {
        "time": st.floats(),
        "event": st.sampled_from([*_kinds, "session_finished"]),
        "session": st.integers(0, 3),
        "step": st.integers(0, 50),
        "phase": st.sampled_from(["step", "odd"]),
        "seconds": st.dictionaries(st.sampled_from(["step", "init"]), st.floats(0, 1e12)),
    }
)
_lines = st.one_of(
    _records.map(json.dumps).map(str.encode),
    st.tuples(_events, _records).map(lambda both: json.dumps({**both[1], **both[0]}).encode()),
    st.binary(max_size=30),
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_file_is_so_odd_that_a_run_cannot_be_shown(tmp_path: Path, data: st.DataObject):
    for name in ("metrics.jsonl", "performance.jsonl", "events.jsonl"):
        lines = data.draw(st.lists(_lines, max_size=6))
        (tmp_path / name).write_bytes(b"\n".join(lines))
    (tmp_path / "run.json").write_text(json.dumps(data.draw(_odd)))
    found = RunReader(tmp_path).read()
    with open(os.devnull, "w") as nowhere:
        Console(file=nowhere, width=40).print(frame([found], 40, 24, now=0.0))
    assert page([found], now=0.0).endswith("</html>\n")
