"""That no registered component is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from axlearn_core.module import Module
from axlearn_core.plugins import Registered, get_registry
from axlearn_core.testing.contracts.command import CommandContract
from axlearn_core.testing.contracts.component import (
    ComponentContract,
    DistributionContract,
    NamedContract,
)
from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.testing.contracts.data_source import DataSourceContract
from axlearn_core.testing.contracts.experiment import ExperimentContract
from axlearn_core.testing.contracts.hardware import HardwareContract
from axlearn_core.testing.contracts.kernel import KernelContract
from axlearn_core.testing.contracts.launcher import LauncherContract
from axlearn_core.testing.contracts.layer import LayerContract
from axlearn_core.testing.contracts.learner import LearnerContract
from axlearn_core.testing.contracts.mesh_rules import MeshRuleContract
from axlearn_core.testing.contracts.model import ModelContract
from axlearn_core.testing.contracts.optimizer import OptimizerContract
from axlearn_core.testing.contracts.schedule import ScheduleContract
from axlearn_core.testing.contracts.tokenizer import TokenizerContract
from axlearn_core.testing.contracts.writer import WriterContract

CONTRACTS: Final[dict[str, type[ComponentContract]]] = {
    "layer": LayerContract,  # ConfigContract for what is no Module, such as an initializer
    "model": ModelContract,
    "learner": LearnerContract,
    "optimizer": OptimizerContract,
    "schedule": ScheduleContract,
    "data-source": DataSourceContract,
    "document-source": ConfigContract,
    "preprocessor": ConfigContract,
    "tokenizer": TokenizerContract,
    "hardware": HardwareContract,
    "kernel": KernelContract,
    "mesh-rule": MeshRuleContract,
    "experiment": ExperimentContract,
    "writer": WriterContract,
    "checkpoint-format": NamedContract,
    "evaluator": NamedContract,
    "launcher": LauncherContract,
    "command": CommandContract,
}
"""The contract of each kind."""


def check_coverage(distribution: str, tests: Iterable[object]) -> str:
    """Compares the components that a distribution registers with those that tests cover.

    Args:
        distribution: such as "acme-norms".
        tests: what a test file defines, `globals().values()`; only test classes count.

    Returns:
        "47 of 47 components of acme-norms are under contract".

    Raises:
        AssertionError: saying what to write for each component without its contract.
    """
    contracts: list[Any] = [test for test in tests if _is_contract(test)]
    components = [c for c in get_registry().records() if c.distribution == distribution]
    assert components, f"{distribution} registers no component; is it installed?"
    needed = [(component, _contract(component)) for component in components]
    missing = [
        (component, contract)
        for component, contract in needed
        if not any(issubclass(test, contract) and test.covers(component) for test in contracts)
    ]
    count = len(components)
    advice = dict.fromkeys(_advice(*pair) for pair in missing)  # one class may do for several
    assert not missing, (
        f"{len(missing)} of {count} components of {distribution} are not under contract. "
        f"Write:\n\n{''.join(advice)}"
    )
    return f"{count} of {count} components of {distribution} are under contract"


def _is_contract(test: Any) -> bool:
    contract = isinstance(test, type) and issubclass(test, ComponentContract)
    return contract and test.__name__.startswith("Test")


def _contract(component: Registered) -> type[ComponentContract]:
    contract = CONTRACTS[component.kind]
    if contract in (LearnerContract, DataSourceContract) and not component.load().trains:
        return ConfigContract
    if contract is LayerContract:
        target = component.load()
        is_module = isinstance(target, type) and issubclass(target, Module)
        return LayerContract if is_module else ConfigContract
    return contract


def _advice(component: Registered, contract: type[ComponentContract]) -> str:
    what = f"# {component.kind} {component.qualified_name}"
    if issubclass(contract, DistributionContract):
        body = [f'    distribution = "{component.distribution}"']
        if contract is MeshRuleContract:
            body += ["", "    def machines(self):"]
            body.append(f'        return {{"...": ("{component.name}", {{...}})}}')
        else:
            what = f"# every {component.kind} of {component.distribution}"
        return _shown(what, f"{component.kind.title().replace('-', '')}s", contract, body)
    name = component.record.target.rpartition(":")[2].rpartition(".")[2]
    if issubclass(contract, NamedContract):
        body = [f'    name = "{component.qualified_name}"']
        if contract is NamedContract:
            body.insert(0, f'    kind = "{component.kind}"')
        if contract is HardwareContract:
            body += ["", "    def device_kinds(self):", '        return {"...": "..."}']
        if contract is KernelContract:
            body += ["", "    def cases(self, rng):", '        return {"...": self.case(...)}']
        return _shown(what, name, contract, body)
    body = [
        "    def config(self):",
        f"        return {name}.default_config().set(...)  # the smallest that builds",
    ]
    if issubclass(contract, LayerContract):
        body += ["", "    def inputs(self, rng):", "        return (...,)  # of forward()"]
    return _shown(what, name, contract, body)


def _shown(what: str, name: str, contract: type[ComponentContract], body: list[str]) -> str:
    return "\n".join([what, f"class Test{name}({contract.__name__}):", *body]) + "\n\n\n"
