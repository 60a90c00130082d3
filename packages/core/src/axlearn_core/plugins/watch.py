"""Watches a plugin while it is read: how long that takes, and which heavy packages it imports."""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

HEAVY: Final = ("jax", "tensorflow", "torch")  # seconds each, and they read the environment
SLOW_SECONDS: Final = 0.5  # what people notice; a plugin of records takes some milliseconds
PATIENCE_SECONDS: Final = 3.0  # after which to say what one is waiting for


@dataclass
class Seen:
    """What was seen while a plugin was read."""

    seconds: float = 0.0
    heavy: dict[str, str] = field(default_factory=dict)  # who imported it, by heavy package


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Watch:
    """How plugins are watched."""

    clock: Callable[[], float] = time.perf_counter
    patience: float = PATIENCE_SECONDS
    say: Callable[[str], None] = _to_stderr

    @contextlib.contextmanager
    def reading(self, plugin: str, without: str) -> Iterator[Seen]:
        """Within the block a plugin is read. What it prints goes to standard error, so that it does
        not get into the JSON of a command.

        Args:
            plugin: its distribution.
            without: what to set so as to go without the plugin.

        Raises:
            KeyboardInterrupt: on Ctrl-C, which then says what was interrupted.
        """
        seen, finder = Seen(), _HeavyImports()
        way_out = f"to go without it: {without}"
        waiting = f"still importing plugin {plugin} after {self.patience:g} s; {way_out}"
        timer = threading.Timer(self.patience, self.say, [waiting])
        timer.daemon = True  # a process that ends does not wait for it
        timer.start()
        sys.meta_path.insert(0, finder)
        start = self.clock()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield seen
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f"while plugin {plugin} was imported; {way_out}") from interrupt
        finally:
            seen.seconds = self.clock() - start
            sys.meta_path.remove(finder)
            timer.cancel()
            # A package may be looked for without being imported.
            seen.heavy = {p: chain for p, chain in finder.chains.items() if p in sys.modules}


class _HeavyImports:
    """Stands before the finders of `sys.meta_path`, and notes who imports a heavy package first."""

    def __init__(self) -> None:
        self.chains: dict[str, str] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in HEAVY and (importers := _importers()):
            self.chains.setdefault(name, " > ".join([*importers, name]))


def _importers() -> list[str]:
    """Returns modules and lines, from the plugin inwards; none within another heavy package.

    Of packages other than the plugin's, only the line that leads into them is of interest.
    """
    found: list[tuple[str, int]] = []
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "?")
        if _package(module) in HEAVY:
            return []
        if module.startswith("axlearn_core.plugins.") and module != __name__:
            break  # from here on, it is those who read the plugin
        if module != __name__ and _package(module) != "importlib":
            found.insert(0, (module, frame.f_lineno))
        frame = frame.f_back
    packages = [_package(module) for module, _ in found]
    return [
        f"{module}:{line}"
        for (module, line), package, before in zip(found, packages, [None, *packages], strict=False)
        if package == packages[0] or package != before
    ]


def _package(module: str) -> str:
    return module.partition(".")[0]
