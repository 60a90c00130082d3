"""What can be wrong with a config. Each message says what was expected, what came and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from axlearn_core.errors import UserError


class ConfigError(UserError):
    """A config, or an edit of one, does not make sense."""


class UnknownFieldError(ConfigError, AttributeError):
    """A name that the record does not declare."""


class FieldTypeError(ConfigError, TypeError):
    """A value of another type than the field's annotation."""


class FrozenConfigError(ConfigError):
    """An edit of the config of an object that is already built."""


class RequiredUsedError(ConfigError):
    """A REQUIRED placeholder was used as if it were a value."""


class MissingFieldsError(ConfigError):
    """All the fields that must be set before a tree can be built.

    `paths` are certain; the fields at `perhaps` are unset below nodes that could not be built, and
    those nodes might have filled them in.
    """

    def __init__(self, paths: Sequence[str], perhaps: Sequence[str] = ()):
        self.paths, self.perhaps = tuple(paths), tuple(perhaps)
        count = "1 required field is" if len(paths) == 1 else f"{len(paths)} required fields are"
        listing = "".join(f"\n  {path}" for path in paths)
        message = f"{count} not set:{listing}\nSet each one, e.g. {paths[0]}=<value>."
        if perhaps:  # dimensions, mostly: too many to list here
            message += (
                f"\nOnce they are set, their owners may fill in {len(perhaps)} more below them; "
                "missing(cfg) lists those."
            )
        super().__init__(message)


class BuildError(ConfigError):
    """Building the node at a path failed; the cause says why."""

    def __init__(self, path: str, cause: BaseException):
        self.path = path
        super().__init__(f"building {path} failed: {cause}")


def near_names(name: str, options: Iterable[str]) -> str:
    """Returns `" Did you mean 'x' or 'y'?"` for names close to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(options), n=3, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(option) for option in close) + "?"
