"""Libraries that only some sources need."""

from __future__ import annotations

import importlib
from typing import Any

from axlearn_core.errors import UserError


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Imports a library, or says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{purpose} need {module}, which is not installed: "
            f"pip install 'axlearn-inputs[{extra}]'"
        ) from error
