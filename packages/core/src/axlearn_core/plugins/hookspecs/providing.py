# Specifications have docstrings for bodies.
# mypy: disable-error-code="empty-body"
"""Hooks that provide components: each returns a list of records of its kind.

When: the plugins are discovered, by `axl` before jax is imported.
How often: once in each process that looks a component up, as nearly every `axl` command does.
Process: every process of a run, before these know of one another.
On an exception: the plugin is left out as a whole, and the others work; a warning, `axl plugins`
    and `axl doctor` say what was raised and what to do. So it is if the hook returns anything but a
    list of its records. With AXLEARN_STRICT_PLUGINS=1 it is an error that stops the command.
    A record's target is imported later, and what that raises is the error of whoever asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from axlearn_core.plugins.hookspecs.marks import hookspec
from axlearn_core.plugins.records import (
    CheckpointFormatRecord,
    CommandRecord,
    DataSourceRecord,
    DocumentSourceRecord,
    EvaluatorRecord,
    ExperimentRecord,
    HardwareRecord,
    KernelRecord,
    LauncherRecord,
    LayerRecord,
    LearnerRecord,
    MeshRuleRecord,
    ModelRecord,
    OptimizerRecord,
    PreprocessorRecord,
    ScheduleRecord,
    TokenizerRecord,
    WriterRecord,
)


@hookspec
def axlearn_layers() -> Sequence[LayerRecord]:
    """Layers that models are built from.

    Target: a `Layer`, or a part of one that configs name, such as an initializer.
    Read by: overrides and config files: `model.**.norm=acme-norms/scale_norm`.

    Example:
        from axlearn_core.plugins import LayerRecord, hookimpl


        @hookimpl
        def axlearn_layers() -> list[LayerRecord]:
            return [LayerRecord("scale_norm", "acme_norms.norms:ScaleNorm", "One learned length.")]
    """


@hookspec
def axlearn_models() -> Sequence[ModelRecord]:
    """Models: layers that map a batch to a loss.

    Target: a `Model`.
    Read by: overrides and config files: `model=acme-models/two_towers`.

    Example:
        from axlearn_core.plugins import ModelRecord, hookimpl


        @hookimpl
        def axlearn_models() -> list[ModelRecord]:
            return [ModelRecord("two_towers", "acme_models.towers:TwoTowers", "Two encoders.")]
    """


@hookspec
def axlearn_learners() -> Sequence[LearnerRecord]:
    """Learners: what turns gradients into new parameters.

    Target: a `Learner`.
    Read by: overrides and config files: `learner=acme-learners/sam`.

    Example:
        from axlearn_core.plugins import LearnerRecord, hookimpl


        @hookimpl
        def axlearn_learners() -> list[LearnerRecord]:
            return [LearnerRecord("sam", "acme_learners.sam:SAM", "Sharpness-aware minimisation.")]
    """


@hookspec
def axlearn_optimizers() -> Sequence[OptimizerRecord]:
    """Optimizers: gradient transformations.

    Target: a class or function; `axlearn_learners.OptaxLearner` takes an `Optimizer`.
    Read by: overrides and config files: `learner.optimizer=acme-optimizers/lion`.

    Example:
        from axlearn_core.plugins import OptimizerRecord, hookimpl


        @hookimpl
        def axlearn_optimizers() -> list[OptimizerRecord]:
            return [OptimizerRecord("lion", "acme_optimizers.lion:Lion", "The sign of a mean.")]
    """


@hookspec
def axlearn_schedules() -> Sequence[ScheduleRecord]:
    """Schedules: functions from step to value.

    Target: a class or function; `Schedule` is the contract.
    Read by: overrides and config files: `learner.optimizer.learning_rate=acme-schedules/sawtooth`.

    Example:
        from axlearn_core.plugins import ScheduleRecord, hookimpl


        @hookimpl
        def axlearn_schedules() -> list[ScheduleRecord]:
            return [ScheduleRecord("sawtooth", "acme_schedules.saw:Sawtooth", "Up, and down.")]
    """


@hookspec
def axlearn_data_sources() -> Sequence[DataSourceRecord]:
    """Data sources: where examples come from.

    Target: a `Configurable`; to train from it, an `Input`.
    Read by: overrides and config files: `input=acme-data/parquet`.

    Example:
        from axlearn_core.plugins import DataSourceRecord, hookimpl


        @hookimpl
        def axlearn_data_sources() -> list[DataSourceRecord]:
            return [DataSourceRecord("parquet", "acme_data.parquet:Parquet", "Parquet files.")]
    """


@hookspec
def axlearn_document_sources() -> Sequence[DocumentSourceRecord]:
    """Document sources: where text comes from, document by document.

    Target: a `Configurable`; `axlearn_inputs.DocumentSource` is the contract.
    Read by: overrides and config files: `input.documents=acme-data/mail`.

    Example:
        from axlearn_core.plugins import DocumentSourceRecord, hookimpl


        @hookimpl
        def axlearn_document_sources() -> list[DocumentSourceRecord]:
            return [DocumentSourceRecord("mail", "acme_data.mail:Mailbox", "Letters in mbox form.")]
    """


@hookspec
def axlearn_preprocessors() -> Sequence[PreprocessorRecord]:
    """Preprocessors: filters that drop documents, and packers that put them into rows.

    Target: a `Configurable`; `axlearn_inputs.DocumentFilter` and `Packer` are the contracts.
    Read by: overrides and config files: `input.packer=acme-data/sorted`.

    Example:
        from axlearn_core.plugins import PreprocessorRecord, hookimpl


        @hookimpl
        def axlearn_preprocessors() -> list[PreprocessorRecord]:
            return [PreprocessorRecord("polite", "acme_data.polite:Polite", "Drops rude text.")]
    """


@hookspec
def axlearn_tokenizers() -> Sequence[TokenizerRecord]:
    """Tokenizers: maps between text and token ids.

    Target: a `Configurable`.
    Read by: overrides and config files, where an input has a tokenizer.

    Example:
        from axlearn_core.plugins import TokenizerRecord, hookimpl


        @hookimpl
        def axlearn_tokenizers() -> list[TokenizerRecord]:
            return [TokenizerRecord("morse", "acme_data.morse:Morse", "Dots and dashes.")]
    """


@hookspec
def axlearn_hardware() -> Sequence[HardwareRecord]:
    """Hardware backends, one per jax platform.

    Target: a `Hardware`, a class that is built without arguments.
    Read by: commands that use devices, which probe all backends before jax starts. One that fails
        to load is reported, and the others are used.

    Example:
        from axlearn_core.plugins import HardwareRecord, hookimpl


        @hookimpl
        def axlearn_hardware() -> list[HardwareRecord]:
            return [HardwareRecord("npu", "acme_npu.backend:NPU", "Acme's chips.", platform="npu")]
    """


@hookspec
def axlearn_kernels() -> Sequence[KernelRecord]:
    """Kernels: implementations of op specifications.

    Target: a `Kernel`, a class that is built without arguments.
    Read by: every trace of a program. Of the kernels for an op, the one of highest priority that
        supports what is to be computed is taken. One that fails to load is passed over.

    Example:
        from axlearn_core.plugins import KernelRecord, hookimpl


        @hookimpl
        def axlearn_kernels() -> list[KernelRecord]:
            return [KernelRecord("attention.npu", "acme_npu.flash:Flash", "Tiles.", op="attention")]
    """


@hookspec
def axlearn_mesh_rules() -> Sequence[MeshRuleRecord]:
    """Mesh rules: config modifiers selected by the machine's description.

    Target: a `ConfigModifier`, or the config of one.
    Read by: `axl train` and `axl config`, which take the first rule whose pattern matches: plugins
        in the order of their names, rules as their plugin lists them. An `optional` one is a
        recipe: it holds after that rule, and only where `recipe=NAME` asks for it.

    Example:
        from axlearn_core.plugins import MeshRuleRecord, hookimpl


        @hookimpl
        def axlearn_mesh_rules() -> list[MeshRuleRecord]:
            return [MeshRuleRecord("npu-node", "acme_npu.rules:NODE", "Node.", pattern=r"npu-.+-8")]
    """


@hookspec
def axlearn_experiments() -> Sequence[ExperimentRecord]:
    """Experiments: functions that return a trainer's config.

    Target: a function without arguments that returns a `Trainer.Config`.
    Read by: `axl train`, `axl config`, `axl data prepare`; `axl experiments` lists them.

    Example:
        from axlearn_core.plugins import ExperimentRecord, hookimpl


        @hookimpl
        def axlearn_experiments() -> list[ExperimentRecord]:
            return [ExperimentRecord("text.haiku", "acme_haiku.experiments:haiku", "17 syllables.")]
    """


@hookspec
def axlearn_writers() -> Sequence[WriterRecord]:
    """Writers: where metrics go.

    Target: a `Writer`.
    Read by: overrides and config files: `writers=["acme-metrics/statsd"]`.

    Example:
        from axlearn_core.plugins import WriterRecord, hookimpl


        @hookimpl
        def axlearn_writers() -> list[WriterRecord]:
            return [WriterRecord("statsd", "acme_metrics.statsd:StatsdWriter", "To statsd.")]
    """


@hookspec
def axlearn_checkpoint_formats() -> Sequence[CheckpointFormatRecord]:
    """Checkpoint formats: ways to store, import and export a model's state.

    Target: free: no contract is written yet.
    Read by: nothing yet but `axl components`.

    Example:
        from axlearn_core.plugins import CheckpointFormatRecord, hookimpl


        @hookimpl
        def axlearn_checkpoint_formats() -> list[CheckpointFormatRecord]:
            return [CheckpointFormatRecord("tar", "acme_formats.tar:Tar", "One tar file.")]
    """


@hookspec
def axlearn_evaluators() -> Sequence[EvaluatorRecord]:
    """Evaluators: scores of a checkpoint on tasks that are known by name.

    Target: an `axlearn_core.training.evaluator.Evaluator`, a function.
    Read by: `axl eval DIR --tasks NAMES`. Of several, `--evaluator` says which.

    Example:
        from axlearn_core.plugins import EvaluatorRecord, hookimpl


        @hookimpl
        def axlearn_evaluators() -> list[EvaluatorRecord]:
            return [EvaluatorRecord("quiz", "acme_quiz.evaluate:evaluate", "Questions of ours.")]
    """


@hookspec
def axlearn_launchers() -> Sequence[LauncherRecord]:
    """Launchers: ways to start a run on several processes or machines.

    Target: a `Launcher`.
    Read by: `axl launch NAME`, whose options are the fields of the launcher's config.

    Example:
        from axlearn_core.plugins import LauncherRecord, hookimpl


        @hookimpl
        def axlearn_launchers() -> list[LauncherRecord]:
            return [LauncherRecord("ssh", "acme_ssh.launch:Ssh", "Over ssh, host by host.")]
    """


@hookspec
def axlearn_commands() -> Sequence[CommandRecord]:
    """Commands: click commands, run as `axl NAME`.

    Target: a click command or group.
    Read by: `axl`. A name that core or another plugin has too is called by its qualified name.

    Example:
        from axlearn_core.plugins import CommandRecord, hookimpl


        @hookimpl
        def axlearn_commands() -> list[CommandRecord]:
            return [CommandRecord("greet", "acme_tools.commands:greet", "Say hello.")]
    """
