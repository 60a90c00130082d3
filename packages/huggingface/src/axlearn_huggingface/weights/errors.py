"""What can be wrong when weights are converted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from axlearn_core.config import near_names
from axlearn_core.errors import UserError


class WeightsError(UserError):
    """Weights, a mapping and a model do not fit together."""


def listing(names: Iterable[str], options: Iterable[str] = ()) -> str:
    """Returns a line per name, numbers as `*`, with the near ones among the options."""
    near = sorted({condense(option) for option in options})
    return "".join(
        f"\n  {name}{f' ({count} times)' if count > 1 else ''}{near_names(name, near)}"
        for name, count in Counter(map(condense, names)).items()
    )


def condense(name: str) -> str:
    """`stack/7/norm/scale` -> `stack/*/norm/scale`: what layers have in common is said once."""
    return re.sub(r"(?<![^./])\d+(?![^./])", "*", name)
