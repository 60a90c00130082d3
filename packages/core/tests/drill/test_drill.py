"""What a drill is made of; that runs survive it is in tests/faults and tests/processes."""

import random
import shutil
import signal

import pytest

from axlearn_core.cli import drill as command
from axlearn_core.drill import FAULTS, Drill, Strike
from axlearn_core.drill import child as child_module
from axlearn_core.drill.child import Child
from axlearn_core.drill.drill import _problems
from axlearn_core.drill.faults import chosen
from axlearn_core.drill.hosts import CUT
from axlearn_core.drill.log import Log, read_log
from axlearn_core.drill.points import POINTS, START, DrillError, Point, _wrap
from axlearn_core.drill.session import Session, seconds_to_restore, steps_replayed
from axlearn_core.drill.verdict import differences
from axlearn_core.launch.local import Local
from axlearn_core.launch.supervisor import Ended
from axlearn_core.testing import tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Trains tiny a little, with changes to its config, and gives the run's directory."""

    def train(name, **fields):
        directory = tmp_path_factory.mktemp(name)
        tiny.experiment().set(max_step=3, evaluations={}, **fields).instantiate().run(directory)
        return directory

    undisturbed = train("undisturbed")
    copies = {name: tmp_path_factory.mktemp("copies") / name for name in ("same", "shorter")}
    for copy in copies.values():
        shutil.copytree(undisturbed, copy)
    with (copies["shorter"] / "metrics.jsonl").open("a+") as file:
        file.truncate(file.tell() // 2)
    other = train("other", learner=tiny.GradientDescent.Config(learning_rate=1.0))
    return {"undisturbed": undisturbed, "other": other, **copies}


def test_runs_of_one_config_do_not_differ(runs):
    assert differences(runs["same"], runs["undisturbed"]) == []


def test_what_differs_is_named(runs):
    found = differences(runs["other"], runs["undisturbed"])
    assert found == ["metrics.jsonl line 1", "metrics.jsonl line 2", "params.table"]
    assert differences(runs["shorter"], runs["undisturbed"]) == ["1 lines of metrics, expected 2"]


def test_a_damaged_checkpoint_is_a_difference(runs):
    (manifest,) = runs["same"].glob("checkpoints/*/manifest.json")
    kept = manifest.read_text()
    manifest.write_text("{")
    found = differences(runs["same"], runs["undisturbed"])
    manifest.write_text(kept)
    assert found == ["the checkpoint of step 3 is damaged: manifest.json cannot be read"]


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Makes a child with a strike, whose signals are collected."""
    sent = []
    monkeypatch.setattr(child_module.os, "kill", lambda pid, number: sent.append(number))

    def make(**strike):
        made = Child(Log(str(tmp_path / "log")), strike or None, [])
        made.sent = sent
        return made

    return make


def test_a_child_strikes_at_the_nth_passing_and_only_then(child, tmp_path):
    made = child(point="after a step", nth=2, within=0.0, action="SIGSTOP")
    for point in ("after a step", "as a save begins", "after a step", "after a step"):
        made.passed(point)
    assert made.sent == [signal.SIGSTOP]
    assert made.passes == {"after a step": 3, "as a save begins": 1}
    assert [event["event"] for event in read_log(tmp_path / "log")] == ["struck"]


def test_a_child_cuts_the_cable_of_its_host(child, monkeypatch):
    ran = []
    monkeypatch.setattr(child_module.subprocess, "run", lambda words, check: ran.append(words))
    made = child(point="after a step", nth=1, within=0.0, action="cut")
    made.passed("after a step")
    assert (made.sent, ran) == ([], [CUT])


def test_a_child_that_is_left_alone_only_counts(child):
    made = child()
    made.passed(START)
    assert (made.sent, made.passes) == ([], {START: 1})


def test_what_is_left_open_is_drawn_from_what_a_run_passes():
    strike = Strike("after a step", nth=None)
    drawn = [strike.drawn(random.Random(seed), {"after a step": 7}, 1.0).nth for seed in range(50)]
    assert set(drawn) == set(range(1, 8))
    again = [strike.drawn(random.Random(seed), {"after a step": 7}, 1.0).nth for seed in range(50)]
    assert drawn == again


def test_a_point_whose_function_is_gone_is_named():
    with pytest.raises(DrillError, match=r"there is no \S+:Trainer\.fly, a point"):
        _wrap(Point("axlearn_core.training.trainer:Trainer.fly", "before"), lambda: None)


def test_every_strike_is_at_a_point_that_exists():
    strikes = [strike for fault in FAULTS for strike in fault.strikes]
    assert {strike.point for strike in strikes} <= {START, *POINTS}


def test_faults_are_chosen_by_how_they_begin():
    assert [fault.name for fault in chosen(["two"], 1)] == ["two runs in one directory"]
    assert all(fault.processes == 1 for fault in chosen([], 1))
    assert chosen([], 4) == list(FAULTS)
    with pytest.raises(DrillError, match="no fault begins with 'fire'; there are:\n  kill -9 at"):
        chosen(["fire"], 1)
    with pytest.raises(DrillError, match="'hang of one process' needs --processes 2"):
        chosen(["hang"], 1)


def test_a_directory_that_holds_something_is_refused(tmp_path):
    (tmp_path / "here").touch()
    with pytest.raises(DrillError, match=r"is not empty\. Choose another --dir"):
        Drill("acme", (), tmp_path, Local.Config().instantiate())


def session(*events, ended=(10.0,), codes=(-9,)):
    return Session(Ended(list(codes), list(ended), 0, [], None), [list(events)])


def step(number, time):
    return {"event": "step", "step": number, "time": time}


def test_times_and_steps_are_taken_from_the_logs():
    before = session(
        step(1, 1.0), step(5, 5.0), {"event": "struck", "time": 9.5, "action": "SIGKILL"}
    )
    after = session(step(4, 13.0), ended=(20.0,), codes=(0,))
    assert before.detected == 0.5
    assert seconds_to_restore(before, after) == 3.0
    assert steps_replayed(before, after) == 2


def test_the_process_that_was_stopped_does_not_count_for_the_time_to_leave():
    struck = {"event": "struck", "time": 1.0, "action": "SIGSTOP"}
    ended = Ended([-6, -9], [11.0, 26.0], 1, [], None)
    assert Session(ended, [[], [struck]]).detected == 10.0


@pytest.mark.parametrize(
    "action, codes, says",
    [
        ("hang", [75], []),
        ("hang", [-9], ["no watchdog ended it: SIGKILL"]),
        ("cut", [-6, -6], []),
        ("cut", [-6, 0], ["a process went on: SIGABRT, code 0"]),
    ],
)
def test_what_should_have_ended_and_did_not_is_a_problem(action, codes, says):
    struck = session({"event": "struck", "time": 1.0, "action": action}, codes=codes)
    last = session(codes=[0])
    assert list(_problems([struck, last], [Strike("after a step", action=action)])) == says


def test_faults_that_this_machine_cannot_make_are_not_offered(capsys, monkeypatch):
    monkeypatch.setattr(command, "why_no_hosts", lambda: "network namespaces need root")
    left = command._possible(FAULTS)
    (cable,) = set(FAULTS) - set(left)
    assert cable.on_hosts
    assert capsys.readouterr().err == (
        "a network cable that is cut: not offered, since network namespaces need root\n"
    )


def test_the_command_refuses_what_it_cannot_do(capsys, tmp_path):
    from axlearn_core.cli.main import main

    assert main(["drill", "acme", "--faults", "fire", "--dir", str(tmp_path / "drills")]) == 1
    assert "no fault begins with 'fire'" in capsys.readouterr().err


def test_a_log_holds_what_was_written_before_a_kill(tmp_path):
    Log(str(tmp_path / "log")).write("step", step=3)
    (event,) = read_log(tmp_path / "log")
    assert (event["event"], event["step"]) == ("step", 3)
    assert read_log(tmp_path / "none") == []
