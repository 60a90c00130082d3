"""The directory of a run: who may use it, and for what."""

import json
import os

import pytest

from axlearn_core.testing import tiny
from axlearn_core.training.evaluation import Evaluation
from axlearn_core.training.run_directory import RunDirectoryError, open_run


@pytest.fixture
def enter(tmp_path):
    def enter(config=None, **fields):
        config = (config or tiny.experiment()).set(**fields)
        return open_run(tmp_path / "run", config, {"experiment": "tiny"})

    return enter


def test_the_directory_is_created_with_those_above_it(tmp_path):
    with open_run(tmp_path / "a/b/run", tiny.experiment(), {}) as run:
        assert run.is_new
        assert run.path.is_dir()


def test_it_remembers_the_config_and_how_it_was_made(enter, tmp_path):
    with enter():
        kept = json.loads((tmp_path / "run/run.json").read_text())
    assert kept["experiment"] == "tiny"
    assert kept["config"]["max_step"] == "20"


def test_a_second_process_is_refused_by_the_id_of_the_first(enter):
    refused = pytest.raises(RunDirectoryError, match=rf"pid {os.getpid()}\) is training")
    with enter(), refused, enter():
        pass


def test_when_a_run_ends_the_next_may_begin(enter):
    with enter():
        pass
    with enter() as run:
        assert not run.is_new


@pytest.fixture
def older(enter, tmp_path):
    """A run of a version that had no field `accumulation`."""
    with enter():
        path = tmp_path / "run/run.json"
        kept = json.loads(path.read_text())
        del kept["config"]["accumulation"]
        (tmp_path / "run/metrics.jsonl").touch()
        path.write_text(json.dumps(kept))


@pytest.mark.usefixtures("older")
def test_a_field_of_a_later_version_is_no_change_at_its_default(enter):
    with enter() as run:
        assert not run.changes


@pytest.mark.usefixtures("older")
def test_a_field_of_a_later_version_is_a_change_at_another_value(enter):
    refused = pytest.raises(RunDirectoryError, match=r"accumulation: \(absent\) -> 2")
    with refused, enter(accumulation=2):
        pass


def with_evaluation(config):
    held_out = config.evaluations["held_out"]
    config.evaluations = {"other": Evaluation.default_config().set(input=held_out.input)}


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.set(max_step=99),
        lambda config: config.set(log_every=1),
        lambda config: config.set(mesh_shape={"fsdp": 2}),
        lambda config: config.set(compile_cache="elsewhere"),
        lambda config: config.checkpoint.set(every=3, keep=9),
        lambda config: config.evaluations["held_out"].set(every=3),
        lambda config: config.set(evaluations={}),
        with_evaluation,
    ],
)
def test_what_no_earlier_step_depends_on_may_change_and_is_listed(enter, change):
    with enter():
        pass
    config = tiny.experiment()
    change(config)
    with enter(config) as run:
        assert run.changes
    with enter(config) as run:
        assert not run.changes


@pytest.mark.parametrize(
    "change, line",
    [
        (
            lambda config: config.learner.set(learning_rate=1.0),
            "learning_rate: 10.0 -> 1.0",
        ),
        (lambda config: config.input.set(seq_len=4), "input.seq_len: 8 -> 4"),
        (lambda config: config.set(seed=1), "seed: 0 -> 1"),
        (lambda config: config.set(accumulation=2), "accumulation: 1 -> 2"),
    ],
)
def test_another_config_is_refused_with_what_differs(enter, tmp_path, change, line):
    with enter() as run:
        (run.path / "metrics.jsonl").touch()
    before = (tmp_path / "run/run.json").read_bytes()
    config = tiny.experiment()
    change(config)
    with pytest.raises(RunDirectoryError, match="another config") as caught, enter(config):
        pass
    assert line in str(caught.value)
    assert "Choose another --dir" in str(caught.value)
    assert (tmp_path / "run/run.json").read_bytes() == before


def test_a_run_that_was_refused_is_mended_and_started_again(enter):
    with enter(accumulation=3):
        pass  # nothing was written: the batch does not divide, say
    with enter(accumulation=2) as run:
        assert [change.path for change in run.changes] == ["accumulation"]
        (run.path / "metrics.jsonl").touch()
    with pytest.raises(RunDirectoryError, match="accumulation: 2 -> 3"), enter(accumulation=3):
        pass


def test_free_changes_are_not_blamed_for_a_refusal(enter):
    with enter() as run:
        (run.path / "metrics.jsonl").touch()
    with pytest.raises(RunDirectoryError) as caught, enter(seed=1, max_step=99):
        pass
    assert "max_step" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"config": 3}', b"\xff\xfe{"])
def test_a_damaged_record_of_the_run_is_named_and_kept(enter, tmp_path, content):
    with enter():
        pass
    (tmp_path / "run/run.json").write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"run\.json is damaged"), enter():
        pass
    assert (tmp_path / "run/run.json").read_bytes() == content


def test_a_file_in_the_place_of_the_directory_is_named(enter, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunDirectoryError, match=r"cannot write to .*run: .*another --dir"), enter():
        pass
