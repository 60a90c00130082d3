"""Reads one plugin in a Python process of its own, where nothing was imported before."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from axlearn_core.plugins.manager import DISABLE_VARIABLE, STRICT_VARIABLE, Plugin

LIMIT_SECONDS: Final = 30.0
"""How long a plugin may take; it is stopped then."""
_ATTEMPTS: Final = 3  # the first import after an installation compiles, and machines may be busy
_PROGRAM: Final = """
import pickle, sys
from axlearn_core.plugins import discover
plugins = discover().plugins
with open(sys.argv[1], "wb") as file:
    pickle.dump(plugins, file)
"""


class Reading(NamedTuple):
    """What came of reading a plugin."""

    plugins: tuple[Plugin, ...]  # one per entry point; none if the process did not get that far
    ended: str | None  # why the process did not get that far


def read_alone(distribution: str, others: Iterable[str], limit: float = LIMIT_SECONDS) -> Reading:
    """Reads a plugin, up to three times as long as it seems slow: the quickest counts.

    Args:
        distribution: the plugin's.
        others: installed plugins, which are left out.
        limit: seconds after which the process is stopped.
    """
    others = [other for other in others if other != distribution]
    readings = []
    for _ in range(_ATTEMPTS):
        readings.append(_read(distribution, others, limit))
        if not any(plugin.slowness and not plugin.problem for plugin in readings[-1].plugins):
            break
    return min(readings, key=lambda reading: sum(p.import_seconds for p in reading.plugins))


def _read(distribution: str, others: Iterable[str], limit: float) -> Reading:
    # The child sees what this process sees, folders that were added to its path too.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment[DISABLE_VARIABLE] = ",".join(others)
    environment.pop(STRICT_VARIABLE, None)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "plugins.pickle"
        command = [sys.executable, "-c", _PROGRAM, str(answer)]
        try:
            done = subprocess.run(
                command, env=environment, timeout=limit, stdout=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return Reading((), f"importing it took more than {limit:g} s, and was stopped")
        if not answer.exists():
            return Reading((), f"importing it ended Python (exit code {done.returncode})")
        found: tuple[Plugin, ...] = pickle.loads(answer.read_bytes())
    return Reading(tuple(plugin for plugin in found if plugin.distribution == distribution), None)
