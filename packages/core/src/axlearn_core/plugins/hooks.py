"""Calls the hooks of a run, and keeps a failing plugin from taking the run with it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, Final, TypeVar

import pluggy

from axlearn_core.plugins.errors import PluginError
from axlearn_core.plugins.events import (
    CheckpointSaved,
    EvalCompleted,
    RunFinished,
    RunStarted,
    StepCompleted,
)

MAX_FAILURES: Final = 3  # a metric service that hiccups survives; one that is gone does not spam
Cfg = TypeVar("Cfg")
_logger = logging.getLogger(__name__)


class HookCaller:
    """The hooks of a run, by name. Within one hook, pluggy's order: last registered first."""

    def __init__(self, manager: pluggy.PluginManager, *, strict: bool = False):
        self._manager = manager
        self._strict = strict
        self._failures: Counter[str] = Counter()

    def axlearn_run_started(self, event: RunStarted) -> None:
        self._failures.clear()  # those of another run of this process
        self._notify("axlearn_run_started", event)

    def axlearn_step_completed(self, event: StepCompleted) -> None:
        self._notify("axlearn_step_completed", event)

    def axlearn_eval_completed(self, event: EvalCompleted) -> None:
        self._notify("axlearn_eval_completed", event)

    def axlearn_checkpoint_saved(self, event: CheckpointSaved) -> None:
        self._notify("axlearn_checkpoint_saved", event)

    def axlearn_run_finished(self, event: RunFinished) -> None:
        self._notify("axlearn_run_finished", event)

    def axlearn_configure_trainer(self, cfg: Cfg) -> Cfg:
        """Passes the config through every plugin that wants to change it.

        Raises:
            PluginError: if one of them raises or returns something else; it names the plugin.
        """
        hook = "axlearn_configure_trainer"
        for implementation in self._implementations(hook):
            plugin = distribution_of(implementation.plugin_name)
            try:
                result = _call(implementation, cfg=cfg)
            except Exception as error:
                raise _failed(plugin, hook, error) from error
            if not isinstance(result, type(cfg)):
                raise PluginError(
                    f"{hook} of plugin {plugin} returned {result!r}; expected the trainer's config "
                    f"({type(cfg).__qualname__}). End the hook with `return cfg`."
                )
            cfg = result
        return cfg

    def implementers(self, hook: str) -> tuple[str, ...]:
        """Returns the distributions that implement a hook, in the order of their calls."""
        return tuple(distribution_of(i.plugin_name) for i in self._implementations(hook))

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return caller.get_hookimpls()[::-1]

    def _notify(self, hook: str, event: object) -> None:
        for implementation in self._implementations(hook):
            name = implementation.plugin_name
            if self._failures[name] >= MAX_FAILURES:
                continue
            try:
                _call(implementation, event=event)
            except Exception as error:
                failure = _failed(distribution_of(name), hook, error)
                if self._strict:
                    raise failure from error
                self._failures[name] += 1
                disabled = self._failures[name] == MAX_FAILURES
                suffix = " It is not called again in this run." if disabled else ""
                _logger.warning("%s%s", failure, suffix, exc_info=error)


def distribution_of(plugin_name: str) -> str:
    """Returns the distribution of a name under which the manager registers a plugin."""
    return plugin_name.partition(":")[0]


def _call(implementation: pluggy.HookImpl, **arguments: object) -> Any:
    # An implementation may leave out arguments it does not need.
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def _failed(plugin: str, hook: str, error: Exception) -> PluginError:
    return PluginError(
        f"{hook} of plugin {plugin} failed: {type(error).__name__}: {error}. "
        f"To go without it: AXLEARN_DISABLE_PLUGINS={plugin}."
    )
