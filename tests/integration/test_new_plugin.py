"""A plugin as `axl plugin new` writes it passes its own tests and is at work in `axl`."""

import os
import subprocess
import sys
import tomllib

import pytest

from axlearn_core.cli.main import main
from axlearn_core.cli.templates import TEMPLATES
from axlearn_core.testing.distributions import write_metadata


@pytest.fixture(params=TEMPLATES)
def plugin(request, tmp_path, monkeypatch):
    """The folder of a new plugin of each kind, installed as far as other processes can see."""
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "acme-parts", "--kind", request.param]) == 0
    folder = tmp_path / "acme-parts"
    declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert declared["entry-points"]["axlearn_core.plugins"] == {"acme-parts": "acme_parts._plugin"}
    write_metadata(
        folder / "src", declared["name"], declared["version"], requires=declared["dependencies"]
    )
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # as many devices as a newcomer has
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{folder / 'src'}{os.pathsep}{before}".rstrip(os.pathsep))
    return folder


def test_a_new_plugin_passes_its_tests(plugin):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=plugin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
