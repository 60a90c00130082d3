import pytest

from axlearn_core.plugins import discover


@pytest.fixture
def find():
    """Discovers with the given environment and returns the plugin of one distribution."""

    def find(distribution, **environ):
        found = [p for p in discover(environ).plugins if p.distribution == distribution]
        assert len(found) == 1
        return found[0]

    return find
