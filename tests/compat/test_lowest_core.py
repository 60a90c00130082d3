"""On the oldest core that the wheels allow, every plugin is in use and everything in it is there.

Runs in an environment of wheels, which `nox -s compat` makes.
"""

import sys
from importlib.metadata import entry_points

import pytest

from axlearn_core.config import ConfigBase
from axlearn_core.plugins import get_registry

COMPONENTS = {f"{c.kind} {c.qualified_name}": c for c in get_registry().records()}


def test_every_installed_plugin_is_in_use():
    names = {entry.name for entry in entry_points(group="axlearn_core.plugins")}
    assert names > {"axlearn-core"}
    assert {p.distribution: str(p.problem) for p in get_registry().plugins} == dict.fromkeys(
        names, "None"
    )


def test_what_is_in_use_has_been_imported():
    """Otherwise the test that a newer core imports nothing could not fail."""
    assert {f"{p.distribution.replace('-', '_')}._plugin" for p in get_registry().plugins} <= set(
        sys.modules
    )


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=COMPONENTS)
def test_component_is_there_with_its_default_config(component):
    target = component.load()
    if hasattr(target, "default_config"):
        assert isinstance(target.default_config(), ConfigBase)


@pytest.mark.parametrize("name", [c.qualified_name for c in get_registry().records("experiment")])
def test_experiment_returns_its_config(name):
    assert isinstance(get_registry().experiment(name)(), ConfigBase)
