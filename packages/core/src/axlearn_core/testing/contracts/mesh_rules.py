"""The contract of mesh rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from axlearn_core.hardware import load_mesh_rule, select_mesh_rule
from axlearn_core.parallel.mesh import infer_mesh_shape
from axlearn_core.plugins import Registered, get_registry
from axlearn_core.testing.contracts.component import DistributionContract
from axlearn_core.training.trainer import Trainer


class MeshRuleContract(DistributionContract):
    """The rules of a distribution give each machine the mesh that they claim.

    A test that takes the fixture `machine` runs once for each::

        class TestMeshRules(MeshRuleContract):
            distribution = "acme-hardware"

            def machines(self):
                return {"gpu-h100-64": ("gpu-nodes", {"data": 8, "fsdp": 8})}
    """

    kind: ClassVar[str] = "mesh-rule"

    def machines(self) -> Mapping[str, tuple[str, Mapping[str, int]]]:
        """Returns machines, for every rule one: its rule, and the axes of its mesh above 1."""
        raise NotImplementedError(
            f"{type(self).__name__} needs machines: define machines(self) and return "
            "{'gpu-h100-64': ('the rule's name', {'data': 8, 'fsdp': 8})}, for every rule one"
        )

    @classmethod
    def covers(cls, component: Registered) -> bool:
        named = component.name in {name for name, _ in cls().machines().values()}
        return super().covers(component) and named

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "machine" in metafunc.fixturenames:
            metafunc.parametrize("machine", self.machines())

    def test_a_machine_gets_its_rule(self, machine: str) -> None:
        rule, (name, _) = select_mesh_rule(get_registry(), machine), self.machines()[machine]
        assert rule is not None, f"no rule is for {machine}"
        assert rule.qualified_name == f"{self.distribution}/{name}"

    def test_a_machine_gets_the_mesh_of_its_size(self, machine: str) -> None:
        name, sizes = self.machines()[machine]
        rule = get_registry().get(self.kind, f"{self.distribution}/{name}")
        changed: Any = load_mesh_rule(rule)(Trainer.default_config())
        fast, slow = changed.mesh_shape, changed.slow_mesh_shape
        count = int(machine.rpartition("-")[2])
        known = fast if -1 in slow.values() else slow
        domains = math.prod(known.values())
        if known is fast:
            domains = count // domains
        outer, inner = infer_mesh_shape(slow, domains), infer_mesh_shape(fast, count // domains)
        mesh = {axis: outer[axis] * inner[axis] for axis in inner}
        assert {axis: size for axis, size in mesh.items() if size > 1} == dict(sizes)
