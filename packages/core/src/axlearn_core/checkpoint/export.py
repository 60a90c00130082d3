"""Parameters as one safetensors file, for other programs."""

from __future__ import annotations

from pathlib import Path

from axlearn_core.checkpoint.arrays import parameters_of, read_array
from axlearn_core.checkpoint.manifest import read_manifest
from axlearn_core.errors import UserError


def export_parameters(folder: Path, target: Path) -> tuple[int, int]:
    """Writes the trainable and the other parameters of an intact checkpoint, by path.

    Returns:
        How many arrays, and the bytes of the file.

    Raises:
        UserError: if safetensors is missing, the target is there, or the checkpoint is an old one.
    """
    try:
        from safetensors import numpy as safetensors
    except ImportError as error:
        raise UserError(
            "safetensors is not installed: pip install 'axlearn-core[export]'"
        ) from error
    if target.exists():
        raise UserError(f"{target} is there already; choose another name, or delete it")
    manifest = read_manifest(folder)
    arrays = {n: read_array(folder, info) for n, info in parameters_of(manifest.arrays).items()}
    if not arrays:
        raise UserError(
            f"{folder} keeps its arrays as older versions did. Let a run go on for a step, which "
            "saves it anew"
        )
    partial = target.with_name(f"{target.name}.partial")
    safetensors.save_file(arrays, partial, metadata={"step": str(manifest.step)})
    partial.replace(target)
    return len(arrays), target.stat().st_size
