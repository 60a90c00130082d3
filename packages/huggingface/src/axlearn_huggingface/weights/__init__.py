"""Published weights into our models and back, by mappings that are data."""

from axlearn_huggingface.weights.errors import WeightsError
from axlearn_huggingface.weights.lazy import LazyTensors
from axlearn_huggingface.weights.mapping import Rule, WeightMapping, within
from axlearn_huggingface.weights.onto_mesh import import_onto_mesh
from axlearn_huggingface.weights.parameters import Parameter, named_parameters
from axlearn_huggingface.weights.transfer import export_weights, import_weights, imported

__all__ = [
    "LazyTensors",
    "Parameter",
    "Rule",
    "WeightMapping",
    "WeightsError",
    "export_weights",
    "import_onto_mesh",
    "import_weights",
    "imported",
    "named_parameters",
    "within",
]
