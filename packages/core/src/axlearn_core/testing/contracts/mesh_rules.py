"""The contract of mesh rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from axlearn_core.hardware import backend_of, load_mesh_rule, select_mesh_rule
from axlearn_core.parallel.mesh import infer_mesh_shape
from axlearn_core.plugins import MeshRuleRecord, Registered, get_registry
from axlearn_core.testing import tiny
from axlearn_core.testing.contracts.component import DistributionContract
from axlearn_core.training.trainer import Trainer

_LARGE = 2**15


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
        """Returns machines, for every rule one: its rule, and the axes of its mesh above 1.

        Recipes, which are optional, need none.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs machines: define machines(self) and return "
            "{'gpu-h100-64': ('the rule's name', {'data': 8, 'fsdp': 8})}, for every rule one"
        )

    def trainer(self) -> Trainer.Config:
        """Returns what the rules are applied to: 1.07B parameters in one matrix, 32,768 rows."""
        cfg: Any = tiny.experiment()
        cfg.model.vocab_size = cfg.input.batch_size = _LARGE
        return cast(Trainer.Config, cfg)

    @classmethod
    def covers(cls, component: Registered) -> bool:
        named = component.name in {name for name, _ in cls().machines().values()}
        assert isinstance(component.record, MeshRuleRecord)
        return super().covers(component) and (named or component.record.optional)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "machine" in metafunc.fixturenames:
            metafunc.parametrize("machine", self.machines())

    def test_a_machine_gets_its_rule(self, machine: str) -> None:
        rule, (name, _) = select_mesh_rule(get_registry(), machine), self.machines()[machine]
        assert rule is not None, f"no rule is for {machine}"
        assert rule.qualified_name == f"{self.distribution}/{name}"

    def test_recipes_are_modifiers(self) -> None:
        for component in get_registry().records(self.kind):
            if component.distribution == self.distribution:
                load_mesh_rule(component)  # or it raises

    def test_a_machine_gets_the_mesh_of_its_size(self, machine: str) -> None:
        name, sizes = self.machines()[machine]
        rule = get_registry().get(self.kind, f"{self.distribution}/{name}")
        count, memory = int(machine.rpartition("-")[2]), _memory_bytes(machine)
        modifier = load_mesh_rule(rule, device_count=count, memory_bytes=memory)
        changed: Any = modifier(self.trainer())
        fast, slow = changed.mesh_shape, changed.slow_mesh_shape
        known = fast if -1 in slow.values() else slow
        domains = math.prod(known.values())
        if known is fast:
            domains = count // domains
        outer, inner = infer_mesh_shape(slow, domains), infer_mesh_shape(fast, count // domains)
        mesh = {axis: outer[axis] * inner[axis] for axis in inner}
        assert {axis: size for axis, size in mesh.items() if size > 1} == dict(sizes)


def _memory_bytes(machine: str) -> int | None:
    """Returns that of the machine's chip, if a backend knows it."""
    platform, _, rest = machine.partition("-")
    backend = backend_of(platform, get_registry())
    chips = backend.chips if backend else ()
    known = {chip.name: chip.memory_bytes for chip in chips}
    return known.get(rest.rpartition("-")[0])
