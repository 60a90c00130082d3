"""A run that begins with parameters of another one."""

import numpy as np
import pytest

from axlearn_core.checkpoint import ArrayInfo, choose, read_array, read_manifest
from axlearn_core.config import ConfigError
from axlearn_core.errors import UserError
from axlearn_core.testing.tiny import experiment


@pytest.fixture
def config(tmp_path, run):
    """A config that begins with the parameters of a run that has learnt for three steps."""
    run(experiment().set(max_step=3, evaluations={}), "before")

    def config(**fields):
        cfg = experiment().set(max_step=1, evaluations={})
        cfg.learner.learning_rate = 0.0
        cfg.initialize_from.set(checkpoint=str(tmp_path / "before"), **fields)
        return cfg

    return config


def source(**fields):
    return experiment().initialize_from.set(**fields).instantiate()


def table(directory):
    folder = choose(directory, None).info.path
    return read_array(folder, read_manifest(folder).arrays["params.table"])


def test_parameters_are_those_of_the_checkpoint_and_the_rest_begins(config, run, tmp_path):
    done = run(config(), "after")
    assert np.array_equal(table(done.directory), table(tmp_path / "before"))
    assert done.result.step == 1
    assert "took 1 of 1 parameters from" in done.out


def test_an_array_may_grow_and_what_is_new_is_drawn(config, run, tmp_path):
    cfg = config(grow=["table"])
    cfg.model.vocab_size = 28
    cfg.mesh_shape = {"data": 2, "fsdp": 4}
    done = run(cfg, "after")
    grown = table(done.directory)
    assert "table [26, 26] -> [28, 28]" in done.out
    assert np.array_equal(grown[:26, :26], table(tmp_path / "before"))
    assert not grown[26:].any() and not grown[:, 26:].any()  # as the tiny model draws: zeros


def test_a_rule_that_takes_nothing_lists_what_was_not_restored():
    held = {"table": _info(26, 26), "other": _info(2)}
    ours = {"table": np.zeros((26, 26)), "other": np.zeros(2)}
    plan = source(rules=[("table", "")]).plan(ours, held)
    assert plan.sources == {"other": "other"}
    assert plan.drawn == ["table"]
    assert plan.unused == ["table"]


def test_names_are_found_by_the_first_rule_that_matches():
    rules = [(r"new\.(\d+)\.(.*)", r"old.\2.\1"), (r"new\..*", "")]
    ours = {"new.7.weight": np.zeros(3), "new.scale": np.zeros(2), "same": np.zeros(1)}
    held = {"old.weight.7": _info(3), "same": _info(1)}
    plan = source(rules=rules).plan(ours, held)
    assert plan.sources == {"new.7.weight": "old.weight.7", "same": "same"}
    assert plan.drawn == ["new.scale"]


@pytest.mark.parametrize(
    "fields, says",
    [
        ({}, r"arrays do not fit:\n    table is \[28, 28\] here, table \[26, 26\] there"),
        ({"rules": [("tabel", "x")]}, r"no parameter matches 'tabel'; the names are:\n    table"),
        ({"rules": [("table", "other")]}, r"no parameter is there under the name"),
    ],
)
def test_what_does_not_fit_is_named(fields, says):
    shape = (28, 28) if not fields else (26, 26)
    with pytest.raises(UserError, match=says):
        source(**fields).plan({"table": np.zeros(shape)}, {"table": _info(26, 26)})


def test_a_pattern_that_is_no_regular_expression_is_refused():
    with pytest.raises(ConfigError, match="is no regular expression"):
        source(rules=[("(", "x")])


def _info(*shape):
    return ArrayInfo(shape, "float32", shape, {})
