# Specifications have docstrings for bodies. mypy: disable-error-code="empty-body"
"""Every hook a plugin may implement.

A plugin is a module that a distribution names in its metadata:

    [project.entry-points."axlearn_core.plugins"]
    acme-norms = "acme_norms._plugin"

Its functions carry the name of a hook and the mark `@hookimpl`. The module imports nothing heavy:
it is read by every `axl` command, before jax is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import pluggy

from axlearn_core.plugins.events import (
    CheckpointSaved,
    EvalCompleted,
    RunFinished,
    RunStarted,
    StepCompleted,
)
from axlearn_core.plugins.records import (
    CheckpointFormatRecord,
    CommandRecord,
    DataSourceRecord,
    ExperimentRecord,
    HardwareRecord,
    KernelRecord,
    LauncherRecord,
    LayerRecord,
    LearnerRecord,
    MeshRuleRecord,
    ModelRecord,
    OptimizerRecord,
    ScheduleRecord,
    TokenizerRecord,
    WriterRecord,
)

PROJECT: Final = "axlearn_core"
Cfg = TypeVar("Cfg")

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# Hooks that provide: called once, when plugins are discovered. They return records.


@hookspec
def axlearn_layers() -> Sequence[LayerRecord]:
    """Layers that models are built from."""


@hookspec
def axlearn_models() -> Sequence[ModelRecord]:
    """Models: layers that map a batch to a loss."""


@hookspec
def axlearn_learners() -> Sequence[LearnerRecord]:
    """Learners: what turns gradients into new parameters."""


@hookspec
def axlearn_optimizers() -> Sequence[OptimizerRecord]:
    """Optimizers: gradient transformations."""


@hookspec
def axlearn_schedules() -> Sequence[ScheduleRecord]:
    """Schedules: functions from step to value."""


@hookspec
def axlearn_data_sources() -> Sequence[DataSourceRecord]:
    """Data sources: where examples come from."""


@hookspec
def axlearn_tokenizers() -> Sequence[TokenizerRecord]:
    """Tokenizers: maps between text and token ids."""


@hookspec
def axlearn_hardware() -> Sequence[HardwareRecord]:
    """Hardware backends, one per jax platform."""


@hookspec
def axlearn_kernels() -> Sequence[KernelRecord]:
    """Kernels: implementations of op specifications."""


@hookspec
def axlearn_mesh_rules() -> Sequence[MeshRuleRecord]:
    """Mesh rules: config modifiers selected by the machine's description."""


@hookspec
def axlearn_experiments() -> Sequence[ExperimentRecord]:
    """Experiments: functions that return a trainer's config."""


@hookspec
def axlearn_writers() -> Sequence[WriterRecord]:
    """Writers: where metrics go."""


@hookspec
def axlearn_checkpoint_formats() -> Sequence[CheckpointFormatRecord]:
    """Checkpoint formats: ways to store, import and export a model's state."""


@hookspec
def axlearn_launchers() -> Sequence[LauncherRecord]:
    """Launchers: ways to start a run on other machines."""


@hookspec
def axlearn_commands() -> Sequence[CommandRecord]:
    """Commands: click commands, run as `axl NAME`."""


# Hooks that observe a run: called by the training loop, on the host, never inside jit. An observer
# that raises is logged, and after three failures no longer called; the run goes on.


@hookspec
def axlearn_run_started(event: RunStarted) -> None:
    """A run is about to make its first step."""


@hookspec
def axlearn_step_completed(event: StepCompleted) -> None:
    """The values of a step have arrived."""


@hookspec
def axlearn_eval_completed(event: EvalCompleted) -> None:
    """An evaluation is done."""


@hookspec
def axlearn_checkpoint_saved(event: CheckpointSaved) -> None:
    """A checkpoint is complete on disk."""


@hookspec
def axlearn_run_finished(event: RunFinished) -> None:
    """A run has ended, well or not."""


# The hook that changes a run. One that raises, or forgets to return the config, stops the run.


@hookspec
def axlearn_configure_trainer(cfg: Cfg) -> Cfg:
    """Returns the trainer's config to use instead of `cfg`, which may be edited in place."""


def specifications() -> dict[str, Callable[..., object]]:
    """Returns every hook of this page, in its order."""
    return {name: hook for name, hook in globals().items() if hasattr(hook, f"{PROJECT}_spec")}
