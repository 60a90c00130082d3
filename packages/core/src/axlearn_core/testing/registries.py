"""A registry that knows only what a test puts into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from axlearn_core.plugins.manager import Discovery, Plugin, new_manager, register
from axlearn_core.plugins.records import Record
from axlearn_core.plugins.registered import Registered
from axlearn_core.plugins.registry import Registry, use_registry


@contextlib.contextmanager
def isolated_registry(*records: Record, **plugins: object) -> Iterator[Registry]:
    """Within the block, `get_registry()` knows these components and plugins, and nothing else.

    Args:
        records: components; they belong to a distribution named "test", version 0.
        plugins: modules or objects with hooks, by the name of the distribution to pretend.
    """
    manager = new_manager()
    own = Plugin("test", "0", "test", "ok")
    own = replace(own, components=tuple(Registered(record, "test", "0") for record in records))
    others = [
        register(manager, Plugin(name.replace("_", "-"), "0", name, "ok"), implementation)
        for name, implementation in plugins.items()
    ]
    with use_registry(Registry(Discovery((own, *others), manager))) as registry:
        yield registry
