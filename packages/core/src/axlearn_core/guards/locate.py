"""Finds where in a model the first value arises that is not finite."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from axlearn_core.module import Module
from axlearn_core.module.parameters import flatten_paths
from axlearn_core.training.model import Batch
from axlearn_core.training.state import TrainState
from axlearn_core.training.step import GradientFunction, Gradients

_MOST_NAMES = 6


def locate(
    gradients: GradientFunction, state: TrainState, batch: Batch, found: Gradients
) -> str | None:
    """Says where the first value that is not finite arises, None if all are.

    Looks at the batch, then at the parameters, then makes the step one operation after the other:
    the first that gives NaN counts, or infinity if none does (a mask may be infinite on purpose).

    Args:
        gradients: not compiled.
        state: before the step.
        batch: of the step.
        found: what `gradients` gave, compiled.
    """
    for what, tree in (("batch", batch), ("parameters", state.params)):
        if names := _not_finite(tree):
            return f"{names} of the {what}"
    names = _not_finite({"the loss": found.metrics["loss"], "gradient": found.grads})
    if not names:
        return None
    for check in (jax.debug_nans, jax.debug_infs):
        with jax.disable_jit(), check(True):
            try:
                gradients(state, batch)
            except FloatingPointError as error:
                return _told(error)
    return f"{names}, and no single operation"


def _not_finite(tree: Mapping[str, Any]) -> str:
    bad = [name for name, x in flatten_paths(dict(tree)).items() if not _is_finite(x)]
    more = f" and {len(bad) - _MOST_NAMES} more" if len(bad) > _MOST_NAMES else ""
    return ", ".join(bad[:_MOST_NAMES]) + more


def _is_finite(x: Any) -> bool:
    return bool(np.isfinite(np.asarray(x).astype(np.float64, casting="unsafe")).all())


def _told(error: FloatingPointError) -> str:
    """Names the operation, the innermost module that called it, and that module's line."""
    what = str(error).splitlines()[0].removesuffix(".")
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if (module := _module_of(frame)) is not None:
            where = f", in {module.path} ({Path(frame.f_code.co_filename).name}:{line})"
    return what + (where or ", in the backward pass")


def _module_of(frame: FrameType) -> Module | None:
    owner = frame.f_locals.get("self")
    return owner if isinstance(owner, Module) else None
