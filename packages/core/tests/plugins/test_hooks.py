from pathlib import Path

import pytest

from axlearn_core.plugins import (
    CheckpointSaved,
    EvalCompleted,
    HookCaller,
    PluginError,
    RunFinished,
    RunStarted,
    StepCompleted,
    hookimpl,
)
from axlearn_core.plugins.manager import Plugin, new_manager, register
from axlearn_core.testing.registries import isolated_registry

STEP = StepCompleted(1, {"loss": 2.0})


class Observer:
    """Remembers every event, and may raise."""

    def __init__(self, error=None):
        self.seen, self.error = [], error

    @hookimpl
    def axlearn_run_started(self, event):
        self.seen.append(event)

    @hookimpl
    def axlearn_step_completed(self, event):
        self.seen.append(event)
        if self.error:
            raise self.error

    @hookimpl
    def axlearn_eval_completed(self, event):
        self.seen.append(event)

    @hookimpl
    def axlearn_checkpoint_saved(self, event):
        self.seen.append(event)

    @hookimpl
    def axlearn_run_finished(self, event):
        self.seen.append(event)


class Configures:
    """Changes the config of a run."""

    def __init__(self, change):
        self.change = change

    @hookimpl
    def axlearn_configure_trainer(self, cfg):
        return self.change(cfg)


def test_an_observer_sees_every_event_of_a_run():
    events = [
        RunStarted(Path("runs/a"), "text.tiny", 10),
        STEP,
        EvalCompleted(1, "held_out", {"loss": 3.0}),
        CheckpointSaved(1, Path("runs/a/checkpoints/1")),
        RunFinished(10, "completed"),
    ]
    observer = Observer()
    with isolated_registry(acme=observer) as registry:
        registry.hook.axlearn_run_started(events[0])
        registry.hook.axlearn_step_completed(events[1])
        registry.hook.axlearn_eval_completed(events[2])
        registry.hook.axlearn_checkpoint_saved(events[3])
        registry.hook.axlearn_run_finished(events[4])
    assert observer.seen == events


def test_an_observer_may_leave_the_event_out():
    class Counter:
        calls = 0

        @hookimpl
        def axlearn_step_completed(self):
            self.calls += 1

    counter = Counter()
    with isolated_registry(acme=counter) as registry:
        registry.hook.axlearn_step_completed(STEP)
    assert counter.calls == 1


def test_a_failing_observer_is_logged_with_its_plugin(caplog):
    with isolated_registry(acme_metrics=Observer(RuntimeError("no disk"))) as registry:
        registry.hook.axlearn_step_completed(STEP)
    assert (
        "axlearn_step_completed of plugin acme-metrics failed: RuntimeError: no disk" in caplog.text
    )


def test_a_failing_observer_does_not_stop_the_others():
    healthy = Observer()
    with isolated_registry(a=healthy, b=Observer(RuntimeError()), c=Observer()) as registry:
        registry.hook.axlearn_step_completed(STEP)
    assert healthy.seen == [STEP]


def test_an_observer_is_disabled_after_three_failures(caplog):
    observer = Observer(RuntimeError())
    with isolated_registry(acme=observer) as registry:
        for _ in range(5):
            registry.hook.axlearn_step_completed(STEP)
    assert len(observer.seen) == 3
    assert caplog.text.count("It is not called again in this run.") == 1


def test_a_new_run_of_the_process_forgives_the_failures_of_the_last():
    observer = Observer(RuntimeError())
    with isolated_registry(acme=observer) as registry:
        for _ in range(4):
            registry.hook.axlearn_step_completed(STEP)
        registry.hook.axlearn_run_started(RunStarted(Path("runs/b"), "text.tiny", 10))
        registry.hook.axlearn_step_completed(STEP)
    assert observer.seen.count(STEP) == 3 + 1


def test_in_strict_mode_a_failing_observer_stops_the_run():
    manager = new_manager()
    register(manager, Plugin("acme", "0", "acme", "ok"), Observer(RuntimeError()))
    with pytest.raises(PluginError, match="axlearn_step_completed of plugin acme failed"):
        HookCaller(manager, strict=True).axlearn_step_completed(STEP)


def test_the_config_passes_through_every_plugin_that_changes_it():
    with isolated_registry(
        a=Configures(lambda cfg: [*cfg, "a"]), b=Configures(lambda cfg: [*cfg, "b"])
    ) as registry:
        assert registry.hook.axlearn_configure_trainer([]) == ["b", "a"]


def test_a_failing_configure_hook_stops_the_run_and_names_its_plugin():
    with (
        isolated_registry(acme=Configures(lambda cfg: 1 / 0)) as registry,
        pytest.raises(PluginError, match="configure_trainer of plugin acme failed: ZeroDivision"),
    ):
        registry.hook.axlearn_configure_trainer([])


def test_a_configure_hook_that_forgets_to_return_is_named():
    with (
        isolated_registry(acme=Configures(lambda cfg: None)) as registry,
        pytest.raises(PluginError, match=r"of plugin acme returned None; .*`return cfg`"),
    ):
        registry.hook.axlearn_configure_trainer([])
