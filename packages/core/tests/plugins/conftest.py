import os

import pytest

from axlearn_core.plugins import discover


@pytest.fixture
def seeing():
    """Returns the environment of a process that finds what is in a folder before all else."""

    def seeing(folder, **environ):
        paths = filter(None, [str(folder), os.environ.get("PYTHONPATH")])
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environ}

    return seeing


@pytest.fixture
def find():
    """Discovers with the given environment and returns the plugin of one distribution."""

    def find(distribution, **environ):
        found = [p for p in discover(environ).plugins if p.distribution == distribution]
        assert len(found) == 1
        return found[0]

    return find


@pytest.fixture
def site(axlearn_install, tmp_path):
    """The folder that `axlearn_install` installs into."""
    return tmp_path / "site"
