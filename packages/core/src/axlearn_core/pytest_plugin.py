"""What pytest loads wherever core is installed: fixtures for tests of plugins.

It does nothing until a test asks for one of them, and jax is not imported before that. With
`-p no:axlearn` pytest leaves it out.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import jax

    from axlearn_core.plugins import Record, Registry
    from axlearn_core.training import Trainer

# A contract that fails shows the values that it compared.
pytest.register_assert_rewrite("axlearn_core.testing.contracts")


@pytest.fixture
def axlearn_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Registry]]:
    """No plugin is installed, until the test says which.

    Discovery does not see those of the environment: it finds what `axlearn_install` installs.
    `axlearn_registry(*records, **plugins)` takes what `isolated_registry` takes, and makes
    `get_registry()` know these and nothing else.
    """
    from axlearn_core.plugins import manager, registry
    from axlearn_core.testing.registries import isolated_registry

    def installed_by_the_test(group: str) -> list[EntryPoint]:
        found = distributions(path=[str(_site(tmp_path))])
        return [entry for each in found for entry in each.entry_points if entry.group == group]

    monkeypatch.setattr(manager, "entry_points", installed_by_the_test)
    monkeypatch.setattr(registry, "_registry", None)  # its next user discovers
    with contextlib.ExitStack() as stack:

        def use(*records: Record, **plugins: object) -> Registry:
            return stack.enter_context(isolated_registry(*records, **plugins))

        yield use


@pytest.fixture
def axlearn_install(
    axlearn_registry: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Installs a distribution with a plugin, which discovery finds by its entry point.

    Nothing else is found; see `axlearn_registry`. The next `get_registry()` discovers.

    `axlearn_install(name, version, plugin, ...)` takes what `write_distribution` takes after the
    path, and returns the name of the package, which can be imported until the test ends.
    """
    from axlearn_core.plugins import registry
    from axlearn_core.testing.distributions import write_distribution

    site = _site(tmp_path)
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(*args: Any, **kwargs: Any) -> str:
        package = write_distribution(site, *args, **kwargs)
        importlib.invalidate_caches()
        monkeypatch.setattr(registry, "_registry", None)
        return package

    yield install
    packages = {path.name for path in site.iterdir()}
    for module in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[module]


def _site(folder: Path) -> Path:
    return folder / "site"


@pytest.fixture(scope="session")
def _axlearn_compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder for compiled programs, for all tests of a session."""
    import jax

    before = jax.config.values["jax_compilation_cache_dir"]
    yield str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def axlearn_tiny(_axlearn_compiled: str) -> Trainer.Config:
    """The config of a run that takes a second: `axlearn_tiny.instantiate().run(folder)`.

    It learns the alphabet in 20 steps on one device; compiled programs are kept for the session.
    """
    from axlearn_core.testing import tiny

    return tiny.experiment().set(mesh_shape={"data": 1}, compile_cache=_axlearn_compiled)


@pytest.fixture
def axlearn_devices() -> list[jax.Device]:
    """8 devices; the test is skipped where there are fewer, saying which variable to set."""
    from axlearn_core.testing.devices import eight_devices

    return eight_devices()
