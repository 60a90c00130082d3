"""Which registered components a contract is about."""

from __future__ import annotations

from typing import Any, ClassVar

from axlearn_core.plugins import Registered, get_registry


class ComponentContract:
    """The contract of some registered components; each kind has its own."""

    @classmethod
    def covers(cls, component: Registered) -> bool:
        """Says whether the tests of this class are about the component."""
        raise NotImplementedError(cls)


class NamedContract(ComponentContract):
    """A component that is called by its registered name, and can be imported.

    For kinds that are built from no config. It is all there is for checkpoint formats, of
    which no two promise the same.
    """

    kind: ClassVar[str]
    name: ClassVar[str]  # qualified, such as "acme-kernels/attention.acme"

    @classmethod
    def covers(cls, component: Registered) -> bool:
        return component.kind == cls.kind and component.qualified_name == cls.name

    def registered(self) -> Registered:
        return get_registry().get(self.kind, self.name)

    def test_its_record_leads_to_it(self) -> None:
        assert self.registered().load() is not None


class DistributionContract(ComponentContract):
    """All components of a kind in a distribution, since they need no example.

    A test that takes the fixture `component` runs once for each.
    """

    kind: ClassVar[str]
    distribution: ClassVar[str]  # such as "acme-experiments"

    @classmethod
    def covers(cls, component: Registered) -> bool:
        return component.kind == cls.kind and component.distribution == cls.distribution

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "component" in metafunc.fixturenames:
            own = [c for c in get_registry().records(self.kind) if self.covers(c)]
            metafunc.parametrize("component", own, ids=[c.name for c in own])
