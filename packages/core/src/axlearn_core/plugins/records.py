"""What a plugin announces: frozen records that say who is where, and import nothing.

A record's target is imported when somebody asks for the component, so reading all records of all
plugins costs milliseconds and leaves jax alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from axlearn_core.plugins.errors import RecordError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Record:
    """One component. Plugins use the subclass of their component's kind.

    Attributes:
        name: lower case, such as "rms_norm"; unique for its kind in one distribution.
        target: "package.module:Attribute", in the module that defines it rather than a re-export.
        summary: one line, shown by `axl components`.
    """

    kind: ClassVar[str]  # singular: what users type and read
    hook: ClassVar[str]  # the hook that collects this kind

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        self._require(
            _NAME.fullmatch(self.name) is not None,
            "name must be lower-case letters, digits, '.', '_' or '-', such as 'rms_norm'",
            self.name,
        )
        self._require(
            _TARGET.fullmatch(self.target) is not None,
            "target must look like 'package.module:Attribute'",
            self.target,
        )
        self._require(
            bool(self.summary.strip()) and len(self.summary.splitlines()) == 1,
            "summary must be one line of text",
            self.summary,
        )

    def _require(self, condition: bool, expected: str, got: str) -> None:
        if not condition:
            raise RecordError(f"{type(self).__name__}({self.name!r}): {expected}; got {got!r}")


@dataclass(frozen=True)
class LayerRecord(Record):
    """A Layer that others are built from."""

    kind = "layer"
    hook = "axlearn_layers"


@dataclass(frozen=True)
class ModelRecord(Record):
    """A Layer that maps a batch to a loss."""

    kind = "model"
    hook = "axlearn_models"


@dataclass(frozen=True)
class LearnerRecord(Record):
    """What turns gradients into new parameters."""

    kind = "learner"
    hook = "axlearn_learners"


@dataclass(frozen=True)
class OptimizerRecord(Record):
    """A gradient transformation."""

    kind = "optimizer"
    hook = "axlearn_optimizers"


@dataclass(frozen=True)
class ScheduleRecord(Record):
    """A function from step to value, such as a learning rate."""

    kind = "schedule"
    hook = "axlearn_schedules"


@dataclass(frozen=True)
class DataSourceRecord(Record):
    """Where examples come from."""

    kind = "data-source"
    hook = "axlearn_data_sources"


@dataclass(frozen=True)
class DocumentSourceRecord(Record):
    """Where documents of text come from, for training or for preparation."""

    kind = "document-source"
    hook = "axlearn_document_sources"


@dataclass(frozen=True)
class PreprocessorRecord(Record):
    """What documents pass on their way into rows: a filter, or a packer."""

    kind = "preprocessor"
    hook = "axlearn_preprocessors"


@dataclass(frozen=True)
class TokenizerRecord(Record):
    """A map between text and token ids."""

    kind = "tokenizer"
    hook = "axlearn_tokenizers"


@dataclass(frozen=True)
class HardwareRecord(Record):
    """The backend of one jax platform.

    Attributes:
        platform: as jax names it: "cpu", "gpu", "tpu".
    """

    kind = "hardware"
    hook = "axlearn_hardware"

    platform: str


@dataclass(frozen=True)
class KernelRecord(Record):
    """An implementation of an op specification.

    Attributes:
        op: the op it implements, such as "attention".
        platform: "gpu" or another that it needs; elsewhere it is not even imported. None: any.
    """

    kind = "kernel"
    hook = "axlearn_kernels"

    op: str
    platform: str | None = None


@dataclass(frozen=True)
class MeshRuleRecord(Record):
    """A config modifier for the machines whose description matches a pattern.

    Attributes:
        pattern: a regular expression for all of "platform-chip-count", such as "gpu-h100-8".
        optional: whether it is a recipe, which holds only where `recipe=NAME` asks for it.
    """

    kind = "mesh-rule"
    hook = "axlearn_mesh_rules"

    pattern: str
    optional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.pattern)
        except re.error as error:
            self._require(False, f"pattern must be a regular expression ({error})", self.pattern)


@dataclass(frozen=True)
class ExperimentRecord(Record):
    """A function that returns a trainer's config."""

    kind = "experiment"
    hook = "axlearn_experiments"


@dataclass(frozen=True)
class WriterRecord(Record):
    """Where metrics are written to."""

    kind = "writer"
    hook = "axlearn_writers"


@dataclass(frozen=True)
class CheckpointFormatRecord(Record):
    """A way to store, or to import and export, a model's state."""

    kind = "checkpoint-format"
    hook = "axlearn_checkpoint_formats"


@dataclass(frozen=True)
class EvaluatorRecord(Record):
    """What scores a checkpoint on tasks that are known by name."""

    kind = "evaluator"
    hook = "axlearn_evaluators"


@dataclass(frozen=True)
class LauncherRecord(Record):
    """A way to start a run on other machines."""

    kind = "launcher"
    hook = "axlearn_launchers"


@dataclass(frozen=True)
class CommandRecord(Record):
    """A click command, run as `axl NAME`."""

    kind = "command"
    hook = "axlearn_commands"


RECORD_TYPES: Final[tuple[type[Record], ...]] = (
    LayerRecord,
    ModelRecord,
    LearnerRecord,
    OptimizerRecord,
    ScheduleRecord,
    DataSourceRecord,
    DocumentSourceRecord,
    PreprocessorRecord,
    TokenizerRecord,
    HardwareRecord,
    KernelRecord,
    MeshRuleRecord,
    ExperimentRecord,
    WriterRecord,
    CheckpointFormatRecord,
    EvaluatorRecord,
    LauncherRecord,
    CommandRecord,
)
KINDS: Final[tuple[str, ...]] = tuple(record.kind for record in RECORD_TYPES)
RECORD_OF_HOOK: Final[dict[str, type[Record]]] = {record.hook: record for record in RECORD_TYPES}
