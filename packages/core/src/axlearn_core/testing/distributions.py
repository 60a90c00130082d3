"""Pretends that a distribution is installed: writes its package and its metadata into a folder."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from axlearn_core.plugins.manager import ENTRY_POINT_GROUP


def write_distribution(
    path: Path,
    name: str,
    version: str = "1.0",
    plugin: str = "",
    *,
    requires: Sequence[str] = (),
    entry_point: str | None = None,
    modules: Mapping[str, str] | None = None,
) -> str:
    """Writes a distribution with a plugin that is found once `path` is on `sys.path`.

    Args:
        path: a folder, made when missing; it can hold several distributions.
        name: the distribution's name; its package has underscores for dashes.
        plugin: source of the package's `_plugin.py`.
        requires: requirements it declares, such as "axlearn-core>=0.1,<0.2".
        entry_point: the entry point's name, by default the distribution's.
        modules: sources of further modules, by their names within the package.

    Returns:
        The package's import name.
    """
    package = _package(name)
    sources = {"__init__": "", "_plugin": plugin, **(modules or {})}
    (path / package).mkdir(parents=True)
    for module, source in sources.items():
        (path / package / f"{module}.py").write_text(source, encoding="utf-8")
    write_metadata(path, name, version, requires=requires, entry_point=entry_point)
    return package


def write_metadata(
    path: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    entry_point: str | None = None,
) -> None:
    """Writes the metadata of a plugin whose package is in the same folder; see above."""
    package = _package(name)
    info = path / f"{package}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\n{entry_point or name} = {package}._plugin\n", encoding="utf-8"
    )


def write_metadata_of(project: Path) -> Path:
    """Makes a plugin's project folder as good as installed, and returns what belongs on the path.

    That is its `src`; it gets the metadata that pyproject.toml declares. Unlike an editable
    install, this asks no index for what the project requires.
    """
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project / "src"
    write_metadata(source, declared["name"], declared["version"], requires=declared["dependencies"])
    return source


def _package(distribution: str) -> str:
    return distribution.replace("-", "_")
