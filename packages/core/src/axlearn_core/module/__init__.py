"""How it computes: modules, invocation contexts, layers and their transformations."""

from axlearn_core.module.context import (
    InvocationContext,
    OutputCollection,
    Tree,
    capture,
    capture_with_state,
    current_context,
    emit,
    fold_in_name,
)
from axlearn_core.module.initializers import BaseInitializer, Constant, FanIn, Normal, ones, zeros
from axlearn_core.module.layer import Layer
from axlearn_core.module.module import Module, functional, no_context
from axlearn_core.module.parameters import (
    Initializer,
    ParameterSpec,
    ParameterSpecs,
    flatten_paths,
    map_specs,
    nest_paths,
    parameter_count,
)
from axlearn_core.module.transforms import (
    remat,
    scan_layers,
    stacked_initialize,
    stacked_specs,
    vmap_layers,
)

__all__ = [
    "BaseInitializer",
    "Constant",
    "FanIn",
    "Initializer",
    "InvocationContext",
    "Layer",
    "Module",
    "Normal",
    "OutputCollection",
    "ParameterSpec",
    "ParameterSpecs",
    "Tree",
    "capture",
    "capture_with_state",
    "current_context",
    "emit",
    "flatten_paths",
    "fold_in_name",
    "functional",
    "map_specs",
    "nest_paths",
    "no_context",
    "ones",
    "parameter_count",
    "remat",
    "scan_layers",
    "stacked_initialize",
    "stacked_specs",
    "vmap_layers",
    "zeros",
]
