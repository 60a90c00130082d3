"""A core of the next series uses none of these plugins, says what to install, and works.

Runs in an environment whose core is newer than the plugins allow, which `nox -s compat` makes.
"""

import json
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

AXL = str(Path(sysconfig.get_path("scripts")) / "axl")
PLUGINS = {
    f"axlearn-{path.parent.name}" for path in Path(__file__).parents[2].glob("packages/*/src")
} - {"axlearn-core"}


def axl(*words, **options):
    return subprocess.run([AXL, *words], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def listed():
    return {
        plugin["distribution"]: plugin for plugin in json.loads(axl("plugins", "--json").stdout)
    }


def test_every_plugin_but_core_is_listed_as_unusable(listed):
    assert listed.keys() == PLUGINS | {"axlearn-core"}
    assert {name for name, plugin in listed.items() if plugin["status"] != "ok"} == PLUGINS


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_a_plugin_says_which_core_it_needs_and_what_to_install(listed, name):
    assert listed[name]["components"] == 0
    assert "it needs axlearn-core <" in listed[name]["why"]
    assert f"{version('axlearn-core')} is installed" in listed[name]["why"]
    assert "pip install" in listed[name]["fix"]


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_the_list_for_people_says_the_same(listed, name):
    output = axl("plugins").stdout
    assert f"{name}: {listed[name]['why']}" in output and listed[name]["fix"] in output


def test_no_plugin_is_imported():
    program = (
        "import sys; from axlearn_core.cli.main import main; main(['plugins']); "
        "print(sorted({name.partition('.')[0] for name in sys.modules if 'axlearn' in name}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "['axlearn_core']"


@pytest.mark.parametrize("words", ["--help", "components", "hooks", "experiments"])
def test_axl_works(words):
    done = axl(words)
    assert done.returncode == 0, done.stderr


def test_a_new_plugin_is_for_the_core_that_is_installed(tmp_path):
    assert axl("plugin", "new", "acme-norms", cwd=tmp_path).returncode == 0
    major, minor, _ = version("axlearn-core").split(".")
    assert (
        f"axlearn-core>={major}.{minor},<" in (tmp_path / "acme-norms/pyproject.toml").read_text()
    )
