"""When a run calls its hooks, as `axl hooks NAME` says."""

import threading

import pytest

from axlearn_core.checkpoint.manifest import is_complete
from axlearn_core.config import ConfigError
from axlearn_core.guards.numbers import NonFiniteError
from axlearn_core.plugins import (
    CheckpointSaved,
    EvalCompleted,
    RunFinished,
    RunStarted,
    StepCompleted,
    hookimpl,
)
from axlearn_core.testing import tiny
from axlearn_core.testing.registries import isolated_registry
from axlearn_core.training.assemble import assemble


class Recorder:
    """Keeps the events of a run, and what was true when each came."""

    def __init__(self):
        self.events, self.threads, self.complete = [], set(), []

    def take(self, event):
        self.events.append(event)
        self.threads.add(threading.current_thread())

    @hookimpl
    def axlearn_run_started(self, event):
        self.take(event)

    @hookimpl
    def axlearn_step_completed(self, event):
        self.take(event)

    @hookimpl
    def axlearn_eval_completed(self, event):
        self.take(event)

    @hookimpl
    def axlearn_checkpoint_saved(self, event):
        self.take(event)
        self.complete.append(is_complete(event.path))

    @hookimpl
    def axlearn_run_finished(self, event):
        self.take(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def config(axlearn_tiny):
    axlearn_tiny.evaluations["held_out"].set(every=3)
    axlearn_tiny.checkpoint.set(every=2)
    return axlearn_tiny.set(max_step=6, log_every=4)


def test_every_step_is_reported_once_and_in_order_whatever_is_logged(run, config, recorder):
    run(config, test=recorder)
    assert [event.step for event in recorder.of(StepCompleted)] == [1, 2, 3, 4, 5, 6]


def test_a_step_has_its_loss_and_gradient_norm_as_plain_numbers(run, config, recorder):
    run(config, test=recorder)
    values = recorder.of(StepCompleted)[0].values
    assert {"loss", "gradient_norm"} <= values.keys()
    assert {type(value) for value in values.values()} == {float}


def test_start_and_end_enclose_everything_else(run, config, recorder):
    directory = run(config, test=recorder).directory
    started, *between, finished = recorder.events
    assert started == RunStarted(directory, "(python)", 6)
    assert finished == RunFinished(6, "completed")
    assert not [event for event in between if isinstance(event, RunStarted | RunFinished)]


def test_an_evaluation_is_reported_when_it_is_due_and_when_training_ends(run, config, recorder):
    config.evaluations["held_out"].set(every=4)
    run(config, test=recorder)
    evaluated = recorder.of(EvalCompleted)
    assert [(event.name, event.step) for event in evaluated] == [("held_out", 4), ("held_out", 6)]
    assert {"loss", "tokens"} <= evaluated[0].values.keys()


def test_an_evaluation_comes_before_the_checkpoint_of_its_step(run, config, recorder):
    run(config, test=recorder)
    order = [e for e in recorder.events if isinstance(e, EvalCompleted | CheckpointSaved)]
    of_the_last = [type(event) for event in order if event.step == 6]
    assert of_the_last == [EvalCompleted, CheckpointSaved]


def test_a_checkpoint_is_reported_when_it_is_complete(run, config, recorder):
    run(config, test=recorder)
    assert [event.step for event in recorder.of(CheckpointSaved)] == [2, 4, 6]
    assert all(recorder.complete)


def test_observers_run_in_the_thread_of_the_loop(run, config, recorder):
    run(config, test=recorder)
    assert recorder.threads == {threading.current_thread()}


def test_a_run_that_goes_on_starts_and_ends_once_more(run, config, recorder):
    run(config.clone(max_step=4), test=recorder)
    run(config, test=recorder)
    assert [event.max_step for event in recorder.of(RunStarted)] == [4, 6]
    assert [event.step for event in recorder.of(StepCompleted)] == [1, 2, 3, 4, 5, 6]
    assert len(recorder.of(RunFinished)) == 2


def test_a_run_that_is_done_already_calls_nothing(run, config, recorder):
    run(config)
    run(config, test=recorder)
    assert recorder.events == []


def test_a_step_that_is_not_finite_is_reported_and_so_is_the_end(run, config, recorder):
    config.learner.set(learning_rate=float("inf"))
    run(config, fails=NonFiniteError, test=recorder)
    last = recorder.of(StepCompleted)[-1]
    (finished,) = recorder.of(RunFinished)
    assert finished.reason.startswith(f"failed: step {last.step}: the loss")


def test_what_cannot_be_built_never_starts(run, config, recorder):
    config.checkpoint.set(keep=0)
    run(config, fails=ConfigError, test=recorder)
    assert recorder.events == []


class Doubles:
    """Doubles max_step."""

    @hookimpl
    def axlearn_configure_trainer(self, cfg):
        return cfg.set(max_step=2 * cfg.max_step)


def test_the_config_is_changed_after_mesh_rule_and_overrides():
    with isolated_registry(acme=Doubles()) as registry:
        config = assemble(
            "axlearn_core.testing.tiny:experiment",
            ["max_step=7"],
            registry,
            mesh_rule=lambda cfg, recipes: cfg.set(max_step=5, log_every=3),
        ).config
    assert (config.max_step, config.log_every) == (14, 3)


def test_a_trainer_that_python_builds_is_not_changed():
    with isolated_registry(acme=Doubles()):
        assert tiny.experiment().set(max_step=7).instantiate().config.max_step == 7
