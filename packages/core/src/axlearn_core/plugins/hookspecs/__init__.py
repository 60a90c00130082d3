"""Every hook that a plugin may implement, and what it promises.

A plugin is a module that a distribution names in its metadata:

    [project.entry-points."axlearn_core.plugins"]
    acme-norms = "acme_norms._plugin"

Its functions carry the name of a hook and the mark `@hookimpl`. The module imports nothing heavy:
it is read by every `axl` command, before jax is.
"""

from axlearn_core.plugins.hookspecs.catalog import ROLES, specifications
from axlearn_core.plugins.hookspecs.marks import (
    PROJECT,
    HookDeprecation,
    deprecated_hookspec,
    deprecation_of,
    hookimpl,
    hookspec,
)

__all__ = [
    "hookimpl",
    "hookspec",
    "deprecated_hookspec",
    "deprecation_of",
    "HookDeprecation",
    "PROJECT",
    "ROLES",
    "specifications",
]
