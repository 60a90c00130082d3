"""A run's directory made of parameters from elsewhere."""

import dataclasses

import jax
import numpy as np
import pytest

from axlearn_core.checkpoint import (
    CheckpointInfo,
    choose,
    problems,
    read_array,
    read_manifest,
    step_folder,
)
from axlearn_core.checkpoint.checkpointer import CheckpointError, restore
from axlearn_core.checkpoint.streaming import Part, write_streamed
from axlearn_core.config import to_json
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry
from axlearn_core.testing.tiny import experiment
from axlearn_core.training.learner import Frozen
from axlearn_core.training.new_run import new_directory, write_run
from axlearn_core.training.saved_run import IN_RUN, saved_config
from axlearn_core.training.trainer import Trainer

TABLE = np.arange(26 * 26, dtype=np.float32).reshape(26, 26)


def config(**fields):
    return experiment().set(learner=Frozen.default_config(), evaluations={}, **fields)


@pytest.mark.parametrize("rows", [None, 1])
def test_parameters_come_whole_or_in_parts_and_are_restored_on_any_mesh(tmp_path, rows):
    whole = [("table", (), TABLE)]
    parts = [("table", (i,), TABLE[i]) for i in range(26)]
    cut = config(mesh_shape={"model": 2, "data": -1}).instantiate()
    folder = write_run(tmp_path / "run", cut, whole if rows is None else parts, changes=[])
    assert not list(problems(folder))
    info = read_manifest(folder).arrays["params.table"]
    assert info.chunk == ((26, 13) if rows is None else (1, 13))
    np.testing.assert_array_equal(read_array(folder, info), TABLE)
    trainer = config(mesh_shape={"fsdp": 2, "data": 4}).instantiate()
    state = restore(folder, trainer.program(trainer.placement()).state)
    np.testing.assert_array_equal(state.params["table"], TABLE)
    assert int(state.step) == 0


def test_all_else_is_the_state_of_a_run_that_begins(tmp_path):
    trainer = config(seed=7).instantiate()
    program = trainer.program(trainer.placement())
    write_run(tmp_path / "run", trainer, [("table", (), TABLE)], changes=[])
    state = restore(choose(tmp_path / "run", None).info.path, program.state)
    expected = dataclasses.replace(program.initial_state(), params={"table": TABLE})
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_a_run_may_begin_with_it(tmp_path, run):
    write_run(tmp_path / "pretrained", config().instantiate(), [("table", (), TABLE)], changes=[])
    cfg = experiment().set(max_step=1, evaluations={})
    cfg.learner.learning_rate = 0.0
    cfg.initialize_from.checkpoint = str(tmp_path / "pretrained")
    done = run(cfg, "after")
    folder = choose(done.directory, None).info.path
    found = read_array(folder, read_manifest(folder).arrays["params.table"])
    np.testing.assert_array_equal(found, TABLE)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "not every element was given once of a"),
        ([("a", (), 1), ("a", (), 1)], "not every element was given once of a"),
        ([("b", (), 1)], "no array b"),
        ([("a", (4,), 0)], "expected float32"),
    ],
)
def test_parts_that_are_not_the_arrays_are_refused(tmp_path, parts, message):
    like = {"a": jax.ShapeDtypeStruct((4,), np.float32)}
    given = [Part(name, at, np.zeros((4,) if dims else (), np.float32)) for name, at, dims in parts]
    with pytest.raises(CheckpointError, match=message):
        write_streamed(tmp_path, 0, like, given, {}, {})
    with pytest.raises(UserError, match="no complete checkpoint"):
        choose(tmp_path, None)


def test_a_learner_with_a_state_is_refused(tmp_path):
    with pytest.raises(UserError, match="Frozen"):
        write_run(tmp_path / "run", experiment().instantiate(), [("table", (), TABLE)], changes=[])


def test_a_directory_that_cannot_be_completed_is_not_left(tmp_path):
    with pytest.raises(ZeroDivisionError), new_directory(tmp_path / "run") as partial:
        (partial / "half").write_text("")
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_a_path_in_the_run_is_where_the_run_is_now(tmp_path):
    folder = step_folder(tmp_path / "moved", 0)
    folder.mkdir(parents=True)
    config = Trainer.default_config().set(compile_cache=f"{IN_RUN}compiled")
    (folder / "config.json").write_text(to_json(config, get_registry()))
    found = saved_config(CheckpointInfo(0, folder, "complete"), get_registry())
    assert found.compile_cache == str(tmp_path / "moved/compiled")
