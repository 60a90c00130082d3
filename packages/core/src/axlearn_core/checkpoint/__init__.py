"""What survives. Nothing here needs jax; saving and restoring is in `checkpointer`."""

from axlearn_core.checkpoint.arrays import ArrayInfo, parameters_of, read_array
from axlearn_core.checkpoint.catalog import (
    CheckpointInfo,
    Newest,
    checkpoints,
    choose,
    newest_intact,
    remove_incomplete,
    set_aside,
    step_folder,
)
from axlearn_core.checkpoint.manifest import Manifest, damage, problems, read_manifest
from axlearn_core.checkpoint.retention import Retention, remove

__all__ = [
    "ArrayInfo",
    "CheckpointInfo",
    "Manifest",
    "Newest",
    "Retention",
    "checkpoints",
    "choose",
    "damage",
    "newest_intact",
    "parameters_of",
    "problems",
    "read_array",
    "read_manifest",
    "remove",
    "remove_incomplete",
    "set_aside",
    "step_folder",
]
