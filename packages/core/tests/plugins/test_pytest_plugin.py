"""The fixtures that pytest has wherever core is installed."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

from axlearn_core import pytest_plugin
from axlearn_core.plugins import LayerRecord, discover, get_registry
from axlearn_core.testing.devices import eight_devices

NORM = LayerRecord("norm", "acme_norms.norms:Norm", "A norm.")
PLUGIN = """
from axlearn_core.plugins import LayerRecord, hookimpl

@hookimpl
def axlearn_layers():
    return [LayerRecord("norm", "acme_norms.norms:Norm", "A norm.")]
"""


def names():
    return [component.qualified_name for component in get_registry().records()]


def test_pytest_finds_them_by_the_entry_point_of_core():
    project = Path(__file__).parents[2] / "pyproject.toml"
    entry_points = tomllib.loads(project.read_text())["project"]["entry-points"]
    assert entry_points["pytest11"] == {"axlearn": pytest_plugin.__name__}


def test_loading_them_imports_nothing_heavy():
    program = (
        "import sys, pytest; before = set(sys.modules); import axlearn_core.pytest_plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    assert packages & {"jax", "numpy", "pluggy", "click", "packaging"} == set(), done.stderr
    assert "axlearn_core.plugins" not in done.stdout.split()


def test_a_registry_knows_what_the_test_says_and_nothing_that_is_installed(axlearn_registry):
    assert names() == []
    axlearn_registry(NORM)
    assert names() == ["test/norm"]


def test_discovery_does_not_see_what_is_installed(axlearn_registry):
    assert discover({}).plugins == ()


def test_what_a_test_installs_is_all_that_is_discovered(axlearn_install):
    axlearn_install("acme-norms", "1.2", PLUGIN, modules={"norms": "class Norm: pass"})
    assert names() == ["acme-norms/norm"]
    assert get_registry().load("layer", "norm").__name__ == "Norm"
    assert get_registry().fingerprint() == {"acme-norms": "1.2"}


def test_what_is_installed_later_is_discovered_too(axlearn_install):
    axlearn_install("acme-norms", plugin=PLUGIN)
    assert names() == ["acme-norms/norm"]
    axlearn_install("acme-other", plugin=PLUGIN)
    assert names() == ["acme-norms/norm", "acme-other/norm"]


def test_what_another_test_installed_is_gone(axlearn_registry):
    assert names() == []
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("acme_norms")


def test_the_tiny_trainer_trains(axlearn_tiny, tmp_path):
    values = axlearn_tiny.instantiate().run(tmp_path / "run").values["train"]
    assert values["loss"] < 1


def test_there_are_eight_devices(axlearn_devices):
    assert len(axlearn_devices) == len(set(axlearn_devices)) == 8


def test_a_test_that_lacks_devices_is_skipped_with_the_variable_to_set(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [None])
    flag = "set XLA_FLAGS=--xla_force_host_platform_device_count=8 and JAX_PLATFORMS=cpu"
    with pytest.raises(pytest.skip.Exception, match=flag):
        eight_devices()
