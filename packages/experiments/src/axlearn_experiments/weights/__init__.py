"""Published weights into our models and back, by mappings that are data."""

from axlearn_experiments.weights.errors import WeightsError
from axlearn_experiments.weights.lazy import LazyTensors
from axlearn_experiments.weights.mapping import Rule, WeightMapping, within
from axlearn_experiments.weights.parameters import Parameter, named_parameters
from axlearn_experiments.weights.transfer import export_weights, import_weights, imported

__all__ = [
    "LazyTensors",
    "Parameter",
    "Rule",
    "WeightMapping",
    "WeightsError",
    "export_weights",
    "import_weights",
    "imported",
    "named_parameters",
    "within",
]
