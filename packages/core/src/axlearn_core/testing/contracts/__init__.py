"""What every component of a kind keeps to, as test classes for plugin authors to inherit."""

from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.testing.contracts.coverage import check_coverage
from axlearn_core.testing.contracts.layer import LayerContract
from axlearn_core.testing.contracts.model import ModelContract
from axlearn_core.testing.contracts.trees import assert_trees_close

__all__ = [
    "ConfigContract",
    "LayerContract",
    "ModelContract",
    "assert_trees_close",
    "check_coverage",
]
