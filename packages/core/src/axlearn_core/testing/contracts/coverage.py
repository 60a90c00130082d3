"""That no registered component is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from axlearn_core.module import Module
from axlearn_core.plugins import Registered, get_registry
from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.testing.contracts.layer import LayerContract
from axlearn_core.testing.contracts.model import ModelContract

KINDS = ("layer", "model")
"""The kinds of components that have a contract."""


def check_coverage(distribution: str, tests: Iterable[object]) -> str:
    """Compares the components that a distribution registers with those that tests cover.

    Args:
        distribution: such as "acme-norms".
        tests: what a test file defines, `globals().values()`; only test classes count.

    Returns:
        "47 of 47 registered layers and models are under contract".

    Raises:
        AssertionError: saying what to write for each component without its contract.
    """
    covered = [
        (type(test().config())._target, test)
        for test in tests
        if isinstance(test, type)
        and issubclass(test, ConfigContract)
        and test.__name__.startswith("Test")
    ]
    registry = get_registry()
    components = [
        component
        for kind in KINDS
        for component in registry.records(kind)
        if component.distribution == distribution
    ]
    assert components, f"{distribution} registers no {' or '.join(KINDS)}; is it installed?"
    missing = []
    for component in components:
        target = component.load()
        contract = _contract(component, target)
        if not any(target is tested and issubclass(test, contract) for tested, test in covered):
            missing.append(_advice(component, target, contract))
    assert not missing, (
        f"{len(missing)} of {len(components)} components of {distribution} are not under contract."
        f" Write:\n\n{''.join(missing)}"
    )
    return f"{len(components)} of {len(components)} registered layers and models are under contract"


def _contract(component: Registered, target: Any) -> type[ConfigContract]:
    if component.kind == "model":
        return ModelContract
    return LayerContract if issubclass(target, Module) else ConfigContract


def _advice(component: Registered, target: Any, contract: type[ConfigContract]) -> str:
    name = target.__name__
    lines = [
        f"# {component.kind} {component.qualified_name}",
        f"class Test{name}({contract.__name__}):",
        "    def config(self):",
        f"        return {name}.default_config().set(...)  # the smallest that builds",
    ]
    if issubclass(contract, LayerContract):
        lines += ["", "    def inputs(self, rng):", "        return (...,)  # of forward()"]
    return "\n".join(lines) + "\n\n\n"
