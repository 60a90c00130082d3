"""One thing that is wrong with a plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """Something that should be otherwise. Its text says what, and how to mend it."""

    severity: Literal["error", "warning"]  # what a warning is about works all the same
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.what}\n  fix: {self.fix}"
