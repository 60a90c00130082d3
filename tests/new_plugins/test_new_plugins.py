"""Plugins as `axl plugin new` writes them, one of each kind side by side, work once installed.

Runs in a folder with acme-layer, acme-optimizer and so on, which `nox -s new_plugins` installs.
"""

import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

from axlearn_core.cli.templates import TEMPLATES, render
from axlearn_core.plugins import get_registry

SCRIPTS = Path(sysconfig.get_path("scripts"))
every_kind = pytest.mark.parametrize("kind", TEMPLATES)


@pytest.fixture
def run(kind, monkeypatch):
    """Runs a command in the folder of a plugin, and returns what it prints."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # as many devices as a newcomer has

    def run(program, *words):
        command = [SCRIPTS / program, *words]
        done = subprocess.run(command, cwd=f"acme-{kind}", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@every_kind
def test_it_is_in_use_with_its_component(kind):
    (plugin,) = [p for p in get_registry().plugins if p.distribution == f"acme-{kind}"]
    assert plugin.problem is None
    assert [component.kind for component in plugin.components] == [kind]


@every_kind
def test_it_passes_its_tests(run):
    assert " passed" in run("pytest")


@every_kind
def test_the_command_that_shows_it_at_work_runs(run, kind):
    program, *words = shlex.split(render(kind, f"acme-{kind}").use)
    assert program == "axl"
    assert run(program, *words)


@pytest.mark.parametrize("kind", ["layer"])
def test_axl_lists_all_of_them(run):
    listed = run("axl", "plugins")
    assert all(f"acme-{kind}" in listed for kind in TEMPLATES) and "failed" not in listed
