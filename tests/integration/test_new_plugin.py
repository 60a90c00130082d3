"""A plugin as `axl plugin new` writes it passes its own tests, and axl uses it."""

import os
import shlex
import subprocess
import sys
import tomllib

import pytest

from axlearn_core.cli.main import main
from axlearn_core.cli.templates import TEMPLATES, render
from axlearn_core.testing.distributions import write_metadata_of

every_kind = pytest.mark.parametrize("kind", TEMPLATES)


@pytest.fixture
def run(kind, tmp_path, monkeypatch):
    """Runs Python in the folder of a new plugin, where it is as good as installed."""
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "acme-parts", "--kind", kind]) == 0
    folder = tmp_path / "acme-parts"
    declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert declared["entry-points"]["axlearn_core.plugins"] == {"acme-parts": "acme_parts._plugin"}
    paths = [str(write_metadata_of(folder)), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # as many devices as a newcomer has

    def run(*words):
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@every_kind
def test_it_passes_its_tests(run):
    assert " passed" in run("pytest")


@every_kind
def test_axl_lists_it_and_the_command_that_shows_it_at_work_runs(run, kind):
    axl, *words = shlex.split(render(kind, "acme-parts").use)
    assert axl == "axl"
    assert "acme-parts" in run("axlearn_core.cli.main", "components", kind)
    assert run("axlearn_core.cli.main", *words)
