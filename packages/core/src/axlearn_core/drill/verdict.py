"""Whether two runs ended with the same bits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from axlearn_core.checkpoint import checkpoints, choose

_MOST = 4  # differences that are named


def differences(run: Path, undisturbed: Path) -> list[str]:
    """Returns in what a run's metrics, checkpoints and final state differ; [] if in nothing.

    The runs' directories are read, on the host, whatever devices the runs had.
    """
    damaged = [
        f"the checkpoint of step {info.step} is {info.status}: {info.problem}"
        for info in checkpoints(run, verify=True)
        if info.status != "complete"
    ]
    if damaged:  # the newest may be among them, and nothing can be said of its arrays
        return damaged
    expected, got = (read_arrays(_final(directory)) for directory in (undisturbed, run))
    arrays = [name for name in expected.keys() | got.keys() if not _same(name, expected, got)]
    return [*_metrics(run, undisturbed), *sorted(arrays)][:_MOST]


def _metrics(run: Path, undisturbed: Path) -> list[str]:
    expected, got = (
        (directory / "metrics.jsonl").read_bytes().splitlines() for directory in (undisturbed, run)
    )
    if len(expected) != len(got):
        return [f"{len(got)} lines of metrics, expected {len(expected)}"]
    pairs = enumerate(zip(expected, got, strict=True), 1)
    return [f"metrics.jsonl line {number}" for number, (a, b) in pairs if a != b]


def _final(directory: Path) -> Path:
    info = choose(directory, None).info
    assert info is not None  # `choose` raises
    return info.path


def _same(name: str, expected: Mapping[str, Any], got: Mapping[str, Any]) -> bool:
    if name not in expected or name not in got:
        return False
    a, b = expected[name], got[name]
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def read_arrays(checkpoint: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Returns every array of a checkpoint, whole, by its name."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # the devices belong to the runs
    import orbax.checkpoint as ocp

    folder = checkpoint.absolute() / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        names = reader.metadata(folder).item_metadata.keys()
        as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        found = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return {name: np.asarray(value) for name, value in found.items()}
