"""axl config: show, diff, where, keys."""

import json
import re

import pytest

from axlearn_core.config import ConfigModifier
from axlearn_core.plugins import MeshRuleRecord


class BigMachine(ConfigModifier):
    def __call__(self, cfg):
        return cfg.set(compute_dtype="bfloat16", accumulation=2)


class Thrifty(ConfigModifier):
    def __call__(self, cfg):
        return cfg.set(accumulation=8, seed=5)


RULE = MeshRuleRecord("big", f"{__name__}:BigMachine", "For tests.", pattern="cpu-host-.*")
RECIPE = MeshRuleRecord(
    "thrifty", f"{__name__}:Thrifty", "For tests.", pattern="cpu-host-4", optional=True
)


def test_show_is_the_canonical_text_with_overrides(axl, tiny):
    lines = axl("config", "show", tiny, "max_step=7").out.splitlines()
    assert lines[0] == "# axlearn_core.training.trainer.Trainer"
    assert "max_step: 7" in lines
    assert "model.vocab_size: 26" in lines
    assert not any(line.startswith("log_every") for line in lines)  # a default


def test_show_full_has_the_defaults_too(axl, tiny):
    assert "log_every: 10" in axl("config", "show", tiny, "--full").out.splitlines()


def test_show_json_names_components_or_says_which_cannot_be_named(axl, tiny):
    done = axl("config", "show", tiny, "--json")
    assert done.code == 1
    assert "model holds BigramModel, which no plugin registers" in done.err


def test_show_says_that_no_mesh_rule_holds(axl, tiny):
    assert axl("config", "show", tiny).err == "machine cpu-host-8: no mesh rule\n"


def test_a_mesh_rule_changes_the_config_before_overrides_do(axl, tiny):
    done = axl("config", "show", tiny, "accumulation=4", records=[RULE])
    assert done.err == "machine cpu-host-8: test/big\n"
    assert 'compute_dtype: "bfloat16"' in done.out
    assert "accumulation: 4" in done.out
    where = axl("config", "where", tiny, "compute_dtype", records=[RULE]).out
    assert "mesh rule test/big for cpu-host-8" in where


def test_a_machine_need_not_be_here(axl, tiny):
    done = axl("config", "show", tiny, "--hardware", "cpu-4", records=[RULE])
    assert done.err == "machine cpu-host-4: test/big\n"


def test_a_recipe_holds_where_asked_for_after_the_rule_and_before_overrides(axl, tiny):
    def shown(*words):
        words = ("config", "show", tiny, "--hardware", "cpu-4", *words)
        return axl(*words, records=[RECIPE, RULE]).out.splitlines()

    assert "accumulation: 2" in shown()
    assert "accumulation: 8" in shown("recipe=thrifty", "seed=6")
    assert "seed: 6" in shown("recipe=thrifty", "seed=6")
    assert 'compute_dtype: "bfloat16"' in shown("recipe=thrifty")


def test_a_recipe_that_the_machine_lacks_is_refused_with_near_names(axl, tiny):
    done = axl("config", "show", tiny, "--hardware", "cpu-4", "recipe=thrify", records=[RECIPE])
    assert done.code == 1
    assert "recipe=thrify: cpu-host-4 has no recipe of that name. Did you mean" in done.err
    assert "Its recipes: thrifty." in done.err


def test_where_names_the_file_the_override_or_the_default(axl, tiny):
    assert "testing/tiny.py:" in axl("config", "where", tiny, "max_step").out
    done = axl("config", "where", tiny, "max_step", "max_step=3")
    assert done.out == "max_step: 3\n  override 1: max_step=3\n"
    assert axl("config", "where", tiny, "seed").out == "seed: 0\n  default\n"


def test_where_of_an_unknown_path_offers_near_ones(axl, tiny):
    done = axl("config", "where", tiny, "max_stp")
    assert done.code == 1
    assert "Did you mean 'max_step'?" in done.err


def test_keys_lists_paths_with_types_and_values(axl, tiny):
    rows = [re.split(r"  +", line) for line in axl("config", "keys", tiny).out.splitlines()]
    assert ["max_step", "int", "20"] in rows
    assert ["input", "Input.Config", "Counting"] in rows
    assert ["input.num_batches", "int | None", "null"] in rows


def test_keys_can_be_selected(axl, tiny):
    found = json.loads(axl("config", "keys", tiny, "*rate*", "--json").out)
    assert found == [{"path": "learner.learning_rate", "type": "float", "value": "10.0"}]


def test_keys_that_nothing_matches_are_an_error(axl, tiny):
    done = axl("config", "keys", tiny, "learner.learning_rat")
    assert done.code == 1
    assert "Did you mean 'learner.learning_rate'" in done.err


def test_diff_compares_a_run_with_its_experiment(axl, train, tiny):
    train("learner.learning_rate=3")
    assert axl("config", "diff", tiny, "run").out == "learner.learning_rate: 10.0 -> 3.0\n"
    found = json.loads(axl("config", "diff", "run", tiny, "--json").out)
    assert found == [{"path": "learner.learning_rate", "old": "3.0", "new": "10.0"}]


def test_diff_of_the_same_config_says_so(axl, tiny):
    assert "have the same config" in axl("config", "diff", tiny, tiny).out


def test_diff_with_a_folder_that_is_no_run_is_an_error(axl, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    done = axl("config", "diff", tiny, "empty")
    assert done.code == 1
    assert "empty is not the directory of a run" in done.err


@pytest.mark.parametrize("words", [("show",), ("keys",), ("where", "max_step")])
def test_an_unknown_experiment_is_an_error(axl, words):
    command, *rest = words
    done = axl("config", command, "no.such", *rest)
    assert done.code == 1
    assert "there is no experiment 'no.such'" in done.err
