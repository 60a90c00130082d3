"""What survives. Nothing here needs jax; saving and restoring is in `checkpointer`."""

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
from axlearn_core.checkpoint.manifest import damage, read_manifest

__all__ = [
    "CheckpointInfo",
    "Newest",
    "checkpoints",
    "choose",
    "damage",
    "newest_intact",
    "read_manifest",
    "remove_incomplete",
    "set_aside",
    "step_folder",
]
