"""Whether jax and what it needs for a platform fit together: from metadata, before jax starts.

An import of jax with a jaxlib or a plugin of another release fails in a dozen ways, few of which
name the versions. Which fit is what jax itself declares: its extras `cuda12`, `cuda13` and `tpu`
list what each platform takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

Find = Callable[[str], tuple[str, list[str]]]
"""Returns the version and the requirements of an installed distribution."""


def jax_mismatch(extra: str = "", *, find: Find | None = None) -> str | None:
    """Returns what does not fit and the command that mends it, None if all of it fits.

    Args:
        extra: of jax, such as "tpu"; without one only jax and jaxlib are compared.
        find: looks distributions up; the installed ones by default.
    """
    find = find or _installed
    try:
        version, _ = find("jax")
    except PackageNotFoundError:
        return "jax is not installed: pip install jax"
    problems = list(_unsatisfied("jax", extra, find))
    if not problems:
        return None
    wanted = f"jax[{extra}]" if extra else "jax"
    return f"{'; '.join(problems)}. To mend it: pip install '{wanted}=={version}'"


def _unsatisfied(name: str, extra: str, find: Find) -> Iterator[str]:
    version, requirements = find(name)
    for requirement in map(Requirement, requirements):
        if not _is_ours(requirement) or not _applies(requirement, extra):
            continue
        try:
            found, _ = find(requirement.name)
        except PackageNotFoundError:
            yield f"{name} {version} needs {requirement.name}, which is not installed"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield (
                f"{name} {version} needs {requirement.name} {requirement.specifier}, and {found} "
                "is installed"
            )
        yield from _unsatisfied(requirement.name, "", find)


def _is_ours(requirement: Requirement) -> bool:
    """Whether it is one of those that are released together with jax."""
    return requirement.name == "libtpu" or requirement.name.startswith(("jaxlib", "jax-"))


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _installed(name: str) -> tuple[str, list[str]]:
    found = distribution(name)
    return found.version, found.requires or []
