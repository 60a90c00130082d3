"""axl eval --tasks: what an evaluator is asked, and where its scores go."""

import json
from pathlib import Path

import pytest

from axlearn_core.plugins import EvaluatorRecord

asked = []


def quiz(checkpoint, request):
    asked.append((checkpoint.step, request))
    return {name: {"acc": 0.5, "acc_stderr": 0.125} for name in request.tasks}


QUIZ = EvaluatorRecord("quiz", f"{__name__}:quiz", "Questions.")
OTHER = EvaluatorRecord("other", f"{__name__}:quiz", "Other questions.")


@pytest.fixture
def run(train, tmp_path):
    asked.clear()
    train("checkpoint.every=10")
    return tmp_path / "run"


def test_scores_are_printed_and_added_to_the_runs_file(axl, run, tmp_path):
    words = ("--tasks", "sums, riddles", "--limit", 3, "--include-path", tmp_path, "--step", 10)
    done = axl("eval", "run", "max_step=7", *words, records=[QUIZ])
    assert done.out.split()[:6] == ["TASK", "METRIC", "VALUE", "sums", "acc", "0.5000"]
    step, request = asked[0]
    assert (step, request.tasks, request.limit) == (10, ("sums", "riddles"), 3)
    assert (request.overrides, request.include_path) == (("max_step=7",), tmp_path)
    assert (request.batch_size, request.num_fewshot) == (8, None)
    printed = axl("eval", "run", "--tasks", "sums", "--json", records=[QUIZ]).out
    first, second = map(json.loads, (run / "evaluations.jsonl").read_text().splitlines())
    assert (first["step"], first["limit"], second["step"]) == (10, 3, 20)
    assert first["tasks"]["riddles"] == {"acc": 0.5, "acc_stderr": 0.125}
    assert json.loads(printed) == second


def test_without_an_evaluator_the_package_is_named(axl, run):
    done = axl("eval", "run", "--tasks", "sums")
    assert done.code != 0 and "pip install 'axlearn-inference[eval]'" in done.err


def test_of_several_evaluators_one_is_chosen(axl, run):
    both = [QUIZ, OTHER]
    assert "say which by --evaluator" in axl("eval", "run", "--tasks", "sums", records=both).err
    words = ("--tasks", "sums", "--evaluator", "other")
    assert axl("eval", "run", *words, records=both).code == 0


def test_options_of_tasks_mean_nothing_without_tasks(axl, run):
    assert "--limit goes with --tasks" in axl("eval", "run", "--limit", 3).err
    assert not Path("run/evaluations.jsonl").exists()
