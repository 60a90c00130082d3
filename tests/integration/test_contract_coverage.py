"""Every component of every package is under the contract of its kind."""

import runpy
import tomllib
from pathlib import Path

from axlearn_core.plugins import get_registry
from axlearn_core.testing.contracts import check_coverage

PACKAGES = {
    tomllib.loads(file.read_text())["project"]["name"]: file.parent
    for file in sorted(Path(__file__).parents[2].glob("packages/*/pyproject.toml"))
}


def contracts(package: Path) -> list[object]:
    files = [package / f"tests/test_contracts{part}.py" for part in ("", "_of_models")]
    there = [str(file) for file in files if file.exists()]
    return [value for file in there for value in runpy.run_path(file).values()]


def test_no_registered_component_is_without_a_contract(capsys):
    reports = [check_coverage(name, contracts(folder)) for name, folder in PACKAGES.items()]
    total = sum(c.distribution in PACKAGES for c in get_registry().records())
    with capsys.disabled():
        print("", *reports, sep="\n")
        print(f"{total} of {total} components of all packages are under contract")
