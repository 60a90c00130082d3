"""Fills the templates in `plugin/`: what all kinds share, and a folder for each kind.

A file `x.py.template` becomes `x.py`, and the folder `package` is called as the plugin's package.
`template.toml` says what is particular to a kind:

    target    the component's module in the package, and its name there: "norm:ScaleNorm"
    summary   of the component, one line
    requires  distributions that it imports from, besides core
    use       a command that shows the component at work
"""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from packaging.version import Version

_ROOT: Final = Path(__file__).parent / "plugin"
_SUFFIX: Final = ".template"
TEMPLATES: Final = tuple(sorted(path.parent.name for path in _ROOT.glob("*/template.toml")))
"""The kinds of components that there is a template for."""


class Project(NamedTuple):
    """A plugin, not yet written."""

    files: dict[str, str]  # texts by path
    use: str  # a command that shows the component at work


def render(kind: str, name: str) -> Project:
    """Returns a plugin with one component.

    Args:
        kind: one of TEMPLATES.
        name: of the distribution; its package has underscores for dashes.
    """
    facts = tomllib.loads((_ROOT / kind / "template.toml").read_text(encoding="utf-8"))
    module, attribute = facts["target"].split(":")
    package = name.replace("-", "_")
    values = {
        "name": name,
        "package": package,
        "kind": kind,
        "module": module,
        "attribute": attribute,
        "summary": facts["summary"],
        "dependencies": "\n".join(
            f'    "{_requirement(other)}",' for other in ["axlearn-core", *facts["requires"]]
        ),
        "use": Template(facts["use"]).substitute(name=name),
    }
    files = {}
    for root in (_ROOT / "shared", _ROOT / kind):
        for path in sorted(root.rglob(f"*{_SUFFIX}")):
            parts = [
                package if part == "package" else part for part in path.relative_to(root).parts
            ]
            template = Template(path.read_text(encoding="utf-8"))
            files["/".join(parts).removesuffix(_SUFFIX)] = template.substitute(values)
    return Project(files, values["use"])


def _requirement(distribution: str) -> str:
    """Returns a range for axlearn's packages; core holds the others to theirs."""
    return distribution + core_range() if distribution.startswith("axlearn-") else distribution


def core_range() -> str:
    """Returns the versions that keep to what the installed core does: ">=0.1,<0.2", ">=1.4,<2"."""
    release = Version(version("axlearn-core"))
    above = release.major + 1 if release.major else f"0.{release.minor + 1}"
    return f">={release.major}.{release.minor},<{above}"
