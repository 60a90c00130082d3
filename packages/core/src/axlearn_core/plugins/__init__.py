"""Who provides what: hooks, records, the plugin manager and the registry."""

from axlearn_core.plugins.errors import (
    AmbiguousNameError,
    PluginError,
    RecordError,
    TargetError,
    UnknownComponentError,
)
from axlearn_core.plugins.events import (
    CheckpointSaved,
    EvalCompleted,
    RunFinished,
    RunStarted,
    StepCompleted,
)
from axlearn_core.plugins.hooks import HookCaller
from axlearn_core.plugins.hookspecs import HookDeprecation, hookimpl
from axlearn_core.plugins.manager import Discovery, Plugin, PluginProblem, discover
from axlearn_core.plugins.records import (
    KINDS,
    RECORD_TYPES,
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
    Record,
    ScheduleRecord,
    TokenizerRecord,
    WriterRecord,
)
from axlearn_core.plugins.registered import Registered
from axlearn_core.plugins.registry import Registry, get_registry, use_registry

__all__ = [
    "hookimpl",
    "HookDeprecation",
    "KINDS",
    "RECORD_TYPES",
    "Record",
    "CheckpointFormatRecord",
    "CommandRecord",
    "DataSourceRecord",
    "ExperimentRecord",
    "HardwareRecord",
    "KernelRecord",
    "LauncherRecord",
    "LayerRecord",
    "LearnerRecord",
    "MeshRuleRecord",
    "ModelRecord",
    "OptimizerRecord",
    "ScheduleRecord",
    "TokenizerRecord",
    "WriterRecord",
    "RunStarted",
    "StepCompleted",
    "EvalCompleted",
    "CheckpointSaved",
    "RunFinished",
    "discover",
    "Discovery",
    "Plugin",
    "PluginProblem",
    "get_registry",
    "use_registry",
    "HookCaller",
    "Registered",
    "Registry",
    "AmbiguousNameError",
    "PluginError",
    "RecordError",
    "TargetError",
    "UnknownComponentError",
]
