"""What the target of a record must be, kind by kind.

A check raises `Unlike`. `Registry` and its callers check as
much when they use a component; here all of it is checked without using any.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from axlearn_core.hardware import HardwareError
from axlearn_core.hardware.mesh_rules import load_mesh_rule
from axlearn_core.plugins import HardwareRecord, Registered

Check = Callable[[Registered, Any], None]


class Unlike(Exception):
    """A target is not what its record promises."""

    def __init__(self, expected: str, got: str):
        """Args: expected, got: what follows the words "must be" and the target's name."""
        super().__init__(expected)
        self.expected, self.got = expected, got


def check_target(component: Registered, target: Any) -> None:
    """Checks an imported target, which may be called or built for that.

    Raises:
        Unlike: if it is not what the record's kind promises.
        Exception: whatever the target raises when it is called without arguments.
    """
    _CHECKS[component.kind](component, target)


def _subclass(base: str) -> Check:
    """Returns a check for subclasses of a class, "module:Class", that is imported when needed."""
    module, _, name = base.partition(":")

    def check(component: Registered, target: Any) -> None:
        if not issubclass_of(target, getattr(importlib.import_module(module), name)):
            raise Unlike(f"a subclass of {module}.{name}", f"is {target!r}")

    return check


def issubclass_of(target: Any, base: type) -> bool:
    return isinstance(target, type) and issubclass(target, base)


def _callable(component: Registered, target: Any) -> None:
    if not callable(target):
        raise Unlike("a class or function", f"is {target!r}")


def _command(component: Registered, target: Any) -> None:
    if not isinstance(target, click.Command):
        raise Unlike("a click command", f"is {target!r}")


def _hardware(component: Registered, target: Any) -> None:
    _subclass("axlearn_core.hardware:Hardware")(component, target)
    platform = target().platform
    assert isinstance(component.record, HardwareRecord)
    if platform != component.record.platform:
        expected = f"of the platform that the record says, {component.record.platform!r}"
        raise Unlike(expected, f"is of {platform!r}")


def _kernel(component: Registered, target: Any) -> None:
    _callable(component, target)
    kernel = target()
    absent = [m for m in ("priority", "supports", "__call__") if not hasattr(kernel, m)]
    if absent:
        raise Unlike("like axlearn_core.kernels.Kernel", f"has no {', '.join(absent)}")


def _mesh_rule(component: Registered, target: Any) -> None:
    try:
        load_mesh_rule(component)
    except HardwareError:
        raise Unlike("a ConfigModifier, or the config of one", f"is {target!r}") from None


def _experiment(component: Registered, target: Any) -> None:
    from axlearn_core.training import Trainer  # which imports jax

    _callable(component, target)
    cfg = target()
    if not isinstance(cfg, Trainer.Config):
        raise Unlike("a function that returns a Trainer.Config", f"returns {type(cfg).__name__}")


_CHECKS: Final[Mapping[str, Check]] = {
    # Parts of layers that are no modules, such as initializers, are listed with the layers.
    "layer": _subclass("axlearn_core.config:Configurable"),
    "model": _subclass("axlearn_core.training:Model"),
    "learner": _subclass("axlearn_core.training:Learner"),
    "optimizer": _callable,
    "schedule": _callable,
    "data-source": _subclass("axlearn_core.training:Input"),
    "document-source": _subclass("axlearn_core.config:Configurable"),
    "preprocessor": _subclass("axlearn_core.config:Configurable"),
    "tokenizer": _subclass("axlearn_core.config:Configurable"),
    "hardware": _hardware,
    "kernel": _kernel,
    "mesh-rule": _mesh_rule,
    "experiment": _experiment,
    "writer": _subclass("axlearn_core.observe.writers:Writer"),
    "checkpoint-format": _callable,
    "evaluator": _callable,
    "launcher": _subclass("axlearn_core.launch:Launcher"),
    "command": _command,
}
