import importlib
import os
import sys

import pytest

from axlearn_core.plugins import discover
from axlearn_core.testing.distributions import write_distribution


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path to install fake distributions into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    packages = {path.name for path in folder.iterdir()}
    for module in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[module]


@pytest.fixture
def install(site):
    """Installs a fake distribution; takes what write_distribution takes after the path."""

    def install(*args, **kwargs):
        package = write_distribution(site, *args, **kwargs)
        importlib.invalidate_caches()
        return package

    return install


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
