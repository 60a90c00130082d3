"""What would break users of a package since its last release, and whether its version says so.

`nox -s api` runs this in the root of the repository, with names of folders in packages/. A release
of packages/core is a tag such as core-0.1.0. Public is what a package's `__init__.py` lists in
`__all__`, and below a package that lists nothing, each module without an underscore. The functions
behind `axl` are nobody's to call.
"""

import re
import subprocess
import sys
import tomllib

import griffe
from packaging.version import Version


def main(packages: list[str]) -> int:
    """Prints the changes of each package; 1 if one has some and a version that promises none."""
    broken = []
    for package in packages:
        tag = last_release(package)
        if tag is None:
            print(f"{package}: no tag {package}-* is in this history, so nothing is compared")
            continue
        released, version = Version(tag.removeprefix(f"{package}-")), current_version(package)
        found = breaking_changes(package, tag)
        print(f"{package} {version}, breaking changes since {tag}: {len(found)}")
        print("".join(f"  {change}\n" for change in found), end="")
        if found and series(version) == series(released):
            broken.append(package)
    for package in broken:
        print(f"{package}: keep what users have, or raise its version: CONTRIBUTING.md, Release")
    return 1 if broken else 0


def last_release(package: str) -> str | None:
    """Returns the newest tag of a package among the ancestors of this commit."""
    command = ["git", "describe", "--tags", "--abbrev=0", f"--match={package}-[0-9]*"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def current_version(package: str) -> Version:
    with open(f"packages/{package}/pyproject.toml", "rb") as file:
        return Version(tomllib.load(file)["project"]["version"])


def series(version: Version) -> tuple[int, ...]:
    """Returns what of a version rises when it breaks users: (0, 1) of 0.1.2, (1,) of 1.4.3."""
    return version.release[: 1 if version.major else 2]


def breaking_changes(package: str, tag: str) -> list[str]:
    """Returns a line for each public thing that is gone, or cannot be called as it could."""
    module = "axlearn_" + package.replace("-", "_")
    options = {"search_paths": [f"packages/{package}/src"], "resolve_aliases": True}
    old = griffe.load_git(module, ref=tag, **options)
    new = griffe.load(module, **options)
    hide_what_is_re_exported(old)
    changes = griffe.find_breaking_changes(old, new)
    return [re.sub(r"\x1b\[\d+m", "", change.explain()) for change in changes]  # without colours


def hide_what_is_re_exported(package: griffe.Module) -> None:
    """Marks the modules of a package that says what it exports as not public by themselves."""
    for module in package.modules.values():
        if module.is_init_module:
            hide_what_is_re_exported(module)
        elif package.exports or package.name == "cli":
            module.public = False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
