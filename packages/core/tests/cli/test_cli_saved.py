"""axl eval: from a run's directory back to a model."""

import json
from pathlib import Path

import pytest

from axlearn_core.checkpoint import choose
from axlearn_core.plugins import DataSourceRecord, LearnerRecord, ModelRecord, get_registry
from axlearn_core.testing import tiny as tiny_module
from axlearn_core.training.saved_run import saved_config

REGISTERED = [
    ModelRecord("bigram", "axlearn_core.testing.tiny:BigramModel", "Tiny."),
    LearnerRecord("descent", "axlearn_core.testing.tiny:GradientDescent", "Tiny."),
    DataSourceRecord("counting", "axlearn_core.testing.tiny:Counting", "Tiny."),
]


@pytest.fixture
def run(train, tmp_path):
    train("checkpoint.every=10")
    return tmp_path / "run"


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_eval_finds_the_loss_that_training_found(axl, run):
    found = json.loads(axl("eval", "run", "--json").out)
    assert found["step"] == 20
    last = metrics(run)[-1]
    assert found["evaluations"]["held_out"]["loss"] == last["held_out/loss"]


def test_eval_takes_a_step_and_overrides(axl, run):
    words = ("evaluations.held_out.max_batches=1", "--step", 10, "--json")
    found = json.loads(axl("eval", "run", *words).out)
    assert found["step"] == 10
    assert found["evaluations"]["held_out"]["tokens"] == 64


def test_eval_prints_loss_per_token_and_per_character(axl, run):
    out = axl("eval", "run").out
    assert out.split()[:4] == ["EVALUATION", "NATS/TOKEN", "NATS/CHARACTER", "TOKENS"]
    assert f"{metrics(run)[-1]['held_out/loss']:.4f}" in out


def test_eval_of_a_run_without_evaluations_says_so(axl, train):
    train("evaluations={}")
    assert "the config of run has no evaluations" in axl("eval", "run").err


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_evaluated(axl, run):
    (run / "checkpoints/00000020/run.json").unlink()
    done = axl("eval", "run", "--json")
    assert "the checkpoint of step 20 is damaged: run.json is missing" in done.err
    assert json.loads(done.out)["step"] == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no-run",), "there is no directory no-run"),
        (("run", "--step", 7), "run holds no complete checkpoint of step 7; complete are those of"),
        (("run", "max_stp=1"), "Did you mean 'max_step'?"),
    ],
)
def test_what_cannot_be_evaluated_is_explained(axl, run, words, message):
    done = axl("eval", *words)
    assert done.code == 1
    assert message in done.err


def test_registered_components_are_rebuilt_from_the_checkpoint_alone(axl, tiny):
    axl("train", tiny, "learner.learning_rate=3", "--dir", "run", records=REGISTERED)
    config = choose(Path("run"), None).info.path / "config.json"
    assert '"learning_rate": 3.0' in config.read_text()
    (Path("run") / "run.json").unlink()
    assert axl("eval", "run", records=REGISTERED).code == 0


def test_unregistered_ones_are_rebuilt_by_assembling_the_experiment_again(train, tmp_path):
    train("learner.learning_rate=3", "max_step=2", 'mesh_shape={"data": 2}')
    config = saved_config(choose(tmp_path / "run", None).info, get_registry())
    assert config.learner.learning_rate == 3.0
    assert config.max_step == 2
    assert config.mesh_shape == {"data": 2}


def test_a_run_whose_experiment_changed_meanwhile_is_not_rebuilt(axl, train, monkeypatch):
    train()
    other = tiny_module.experiment().set(model=_other_model())
    monkeypatch.setattr(tiny_module, "experiment", lambda: other.clone())
    done = axl("eval", "run")
    assert "run cannot be rebuilt." in done.err
    assert "no plugin registers" in done.err


@pytest.mark.parametrize(
    ("command", "package"), [("generate", "axlearn-inference"), ("export", "axlearn-huggingface")]
)
def test_a_command_of_a_package_that_is_not_here_names_the_package(axl, command, package):
    done = axl(command, "run")
    assert done.code == 2
    assert f"pip install {package}" in done.err


def _other_model():
    class Other(tiny_module.BigramModel):
        class Config(tiny_module.BigramModel.Config):
            depth: int = 1

    return Other.default_config().set(vocab_size=26)
