"""Hooks that observe a run.

Process: process 0 of those that train a run, in the thread of the training loop, on the host and
    never inside jit. The loop waits for the call, and so do the other processes; what takes long
    belongs into a thread of the plugin's own.
On an exception: it is logged with the plugin's name, and the run goes on. After three, in
    whichever of its observers, the plugin's observers are not called again in that run. With
    AXLEARN_STRICT_PLUGINS=1 the first one stops the run.
"""

from __future__ import annotations

from axlearn_core.plugins.events import (
    CheckpointSaved,
    EvalCompleted,
    RunFinished,
    RunStarted,
    StepCompleted,
)
from axlearn_core.plugins.hookspecs.marks import hookspec


@hookspec
def axlearn_run_started(event: RunStarted) -> None:
    """A run is about to make its first step.

    When: the step is compiled, the state is new or restored, and the writers are open.
    How often: once each time that training begins or goes on; not if `max_step` was reached before.

    Example:
        from axlearn_core.plugins import RunStarted, hookimpl


        @hookimpl
        def axlearn_run_started(event: RunStarted) -> None:
            print(f"{event.experiment} trains in {event.directory}")
    """


@hookspec
def axlearn_step_completed(event: StepCompleted) -> None:
    """The values of a step have arrived.

    When: they are on the host, in the order of the steps. The loop does not wait for them, so up to
        two later steps have been started by then.
    How often: once for every step, whatever `log_every` is; also for one that is not finite, which
        ends the run. Steps made again after a kill are reported again.

    Example:
        from axlearn_core.plugins import StepCompleted, hookimpl


        @hookimpl
        def axlearn_step_completed(event: StepCompleted) -> None:
            if event.values["loss"] > 20:
                print(f"step {event.step}: the loss is far off")
    """


@hookspec
def axlearn_eval_completed(event: EvalCompleted) -> None:
    """An evaluation is done.

    When: training has made one of its `evaluations`, and before it saves a checkpoint of that step.
        `axl eval` does not call it.
    How often: once for every evaluation and every step at which it is due.

    Example:
        from axlearn_core.plugins import EvalCompleted, hookimpl


        @hookimpl
        def axlearn_eval_completed(event: EvalCompleted) -> None:
            print(f"step {event.step}: {event.name} is at {event.values['loss']:.3f}")
    """


@hookspec
def axlearn_checkpoint_saved(event: CheckpointSaved) -> None:
    """A checkpoint is complete on disk.

    When: its manifest is written, and the loop, which trains on meanwhile, comes by: after a later
        step, or when the run ends.
    How often: once for every checkpoint; not for a save that failed.

    Example:
        from axlearn_core.plugins import CheckpointSaved, hookimpl


        @hookimpl
        def axlearn_checkpoint_saved(event: CheckpointSaved) -> None:
            print(f"copy {event.path} to the archive")
    """


@hookspec
def axlearn_run_finished(event: RunFinished) -> None:
    """A run has ended, well or not.

    When: the last step is made, checkpoints are on disk and the writers are closed.
    How often: once for every `axlearn_run_started`, unless the process is killed. A second Ctrl-C
        is a kill.

    Example:
        from axlearn_core.plugins import RunFinished, hookimpl


        @hookimpl
        def axlearn_run_finished(event: RunFinished) -> None:
            print(f"{event.reason} at step {event.step}")
    """
