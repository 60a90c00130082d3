"""The contract of everything that is built from a config."""

from __future__ import annotations

from functools import cache
from typing import Any

from axlearn_core.config import ConfigBase, from_json, to_json, to_text
from axlearn_core.plugins import Registered, get_registry
from axlearn_core.testing.contracts.component import ComponentContract


class ConfigContract(ComponentContract):
    """A registered config can be written, read and built.

    For components that are no `Module`, such as a rule or a policy; the other contracts extend it.
    """

    def config(self) -> Any:
        """Returns the smallest example that builds, made anew in every call."""
        raise NotImplementedError(
            f"{type(self).__name__} needs an example to test: define config(self) and return the "
            "smallest config of the component that builds"
        )

    def build(self, config: ConfigBase) -> Any:
        """Builds the component."""
        return config.instantiate()

    @classmethod
    def covers(cls, component: Registered) -> bool:
        test: Any = cls  # hashable, which mypy does not see
        return component.load() is _target(test)

    def test_the_registry_knows_its_name(self) -> None:
        registry, target = get_registry(), type(self.config())._target
        name = registry.name_of(target)
        assert name is not None, (
            f"no record leads to {target}. Announce it in a _plugin.py, with the module that "
            "defines it as target, and install the distribution again"
        )
        assert registry.lookup(name) is target

    def test_json_restores_the_config(self) -> None:
        cfg, registry = self.config(), get_registry()
        restored = from_json(to_json(cfg, registry), type(cfg), registry)
        assert to_text(restored) == to_text(cfg)

    def test_equal_configs_have_the_same_text(self) -> None:
        text = to_text(self.config())
        assert text == to_text(self.config()) == to_text(self.config().clone())

    def test_building_leaves_the_config_as_it_was(self) -> None:
        cfg = self.config()
        before = to_text(cfg)
        self.build(cfg)
        assert to_text(cfg) == before, "__init__ has changed the config that it was built from"


@cache
def _target(contract: type[ConfigContract]) -> Any:
    return type(contract().config())._target
