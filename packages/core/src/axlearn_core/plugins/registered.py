"""A record together with the distribution it comes from."""

from __future__ import annotations

import functools
import importlib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axlearn_core.plugins.errors import TargetError
from axlearn_core.plugins.records import Record


@dataclass(frozen=True)
class Registered:
    """A component that an installed plugin provides."""

    record: Record
    distribution: str  # canonical: lower case, with dashes
    version: str

    @property
    def kind(self) -> str:
        return self.record.kind

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def qualified_name(self) -> str:
        return f"{self.distribution}/{self.record.name}"

    def answers_to(self, qualifier: str) -> bool:
        """Whether `qualifier` is a valid prefix: "axlearn-layers", "layers" or "layer"."""
        return qualifier in (
            self.distribution,
            self.distribution.removeprefix("axlearn-"),
            self.record.kind,
            plural(self.record),
        )

    def load(self) -> Any:
        """Imports and returns the object behind the record."""
        module, _, attribute = self.record.target.partition(":")
        try:
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
        except (Exception, SystemExit) as error:
            raise TargetError(
                f"{self.kind} {self.qualified_name}: importing {self.record.target} failed: "
                f"{type(error).__name__}: {error}{_place(error, module)}\n"
                f"Repair the plugin (pip install --upgrade {self.distribution}), or go without it "
                f"(AXLEARN_DISABLE_PLUGINS={self.distribution})."
            ) from error


def _place(error: BaseException, module: str) -> str:
    """Returns the line of a module's package where its import went wrong, or an empty string.

    It is often in another module than the one that was asked for.
    """
    package = module.partition(".")[0]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if package in Path(frame.filename).parts]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def plural(record: Record | type[Record]) -> str:
    """Returns a record's kind as its hook spells it: "layers", "data-sources"."""
    return record.hook.removeprefix("axlearn_").replace("_", "-")
