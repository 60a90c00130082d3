"""What every component of a kind keeps to, as test classes for plugin authors to inherit."""

from axlearn_core.testing.contracts.command import CommandContract
from axlearn_core.testing.contracts.component import NamedContract
from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.testing.contracts.coverage import check_coverage
from axlearn_core.testing.contracts.data_source import DataSourceContract
from axlearn_core.testing.contracts.experiment import ExperimentContract
from axlearn_core.testing.contracts.hardware import HardwareContract
from axlearn_core.testing.contracts.kernel import KernelContract
from axlearn_core.testing.contracts.launcher import LauncherContract
from axlearn_core.testing.contracts.layer import LayerContract
from axlearn_core.testing.contracts.learner import LearnerContract
from axlearn_core.testing.contracts.mesh_rules import MeshRuleContract
from axlearn_core.testing.contracts.model import ModelContract
from axlearn_core.testing.contracts.optimizer import OptimizerContract
from axlearn_core.testing.contracts.schedule import ScheduleContract
from axlearn_core.testing.contracts.tokenizer import TokenizerContract
from axlearn_core.testing.contracts.trees import assert_trees_close
from axlearn_core.testing.contracts.writer import WriterContract

__all__ = [
    "ConfigContract",
    "LayerContract",
    "ModelContract",
    "LearnerContract",
    "OptimizerContract",
    "ScheduleContract",
    "DataSourceContract",
    "TokenizerContract",
    "HardwareContract",
    "MeshRuleContract",
    "KernelContract",
    "WriterContract",
    "ExperimentContract",
    "CommandContract",
    "LauncherContract",
    "NamedContract",
    "assert_trees_close",
    "check_coverage",
]
