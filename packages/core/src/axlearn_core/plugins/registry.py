"""Looks components up by name, and imports them when they are asked for."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

from axlearn_core.config import ConfigBase, Configurable, near_names
from axlearn_core.plugins.errors import (
    AmbiguousNameError,
    PluginError,
    TargetError,
    UnknownComponentError,
)
from axlearn_core.plugins.hooks import HookCaller
from axlearn_core.plugins.manager import Discovery, Plugin, PluginProblem, discover, new_manager
from axlearn_core.plugins.records import KINDS
from axlearn_core.plugins.registered import Registered

_MANY = 12  # an error lists up to so many names, and sends the reader to `axl components` for more
_logger = logging.getLogger(__name__)


class Registry:
    """The components of the plugins in use.

    A name is bare (`rms_norm`) or qualified by distribution or kind (`axlearn-layers/rms_norm`,
    `layers/rms_norm`, `layer/rms_norm`). Names serve the command line and files; in Python one
    simply imports the class.
    """

    def __init__(self, discovery: Discovery | None = None):
        """Args: discovery: the plugins in use; without it the registry is empty."""
        discovery = discovery or Discovery((), new_manager())
        self.plugins: tuple[Plugin, ...] = discovery.plugins
        self.hook = HookCaller(discovery.manager, strict=discovery.strict)
        self._components = tuple(c for plugin in self.plugins for c in plugin.components)
        self._by_name: dict[str, list[Registered]] = {}
        self._by_target: dict[str, Registered] = {}
        for component in self._components:
            self._by_name.setdefault(component.name, []).append(component)
            self._by_target.setdefault(component.record.target, component)

    @property
    def problems(self) -> tuple[PluginProblem, ...]:
        """What is wrong with installed plugins: why they are not in use, or a burden on others."""
        return tuple(plugin.problem for plugin in self.plugins if plugin.problem)

    def records(self, kind: str | None = None) -> tuple[Registered, ...]:
        """Returns all components, or those of a kind, as their plugins list them."""
        if kind is not None and kind not in KINDS:
            raise PluginError(
                f"there is no kind {kind!r}.{near_names(kind, KINDS)} Kinds: {', '.join(KINDS)}"
            )
        return tuple(c for c in self._components if kind in (None, c.kind))

    def resolve(self, name: str) -> tuple[Registered, ...]:
        """Returns every component, of any kind, that a bare or qualified name can mean."""
        *qualifiers, bare = name.split("/")
        return tuple(
            component
            for component in self._by_name.get(bare, ())
            if all(component.answers_to(qualifier) for qualifier in qualifiers)
        )

    def get(self, kind: str | None, name: str) -> Registered:
        """Returns the one component of a kind (None: of any kind) that a name means.

        Raises:
            UnknownComponentError: if there is none.
            AmbiguousNameError: if there are several.
        """
        candidates = self.records(kind)
        matches = [component for component in self.resolve(name) if component in candidates]
        if not matches:
            raise UnknownComponentError(self._unknown(kind, name, candidates))
        if len(matches) > 1:
            forms = " or ".join(self.unique_name(component) for component in matches)
            raise AmbiguousNameError(
                f"{kind or 'component'} {name!r} is provided more than once; write {forms}"
            )
        return matches[0]

    def load(self, kind: str | None, name: str) -> Any:
        """Imports and returns the object behind a name."""
        return self.get(kind, name).load()

    def lookup(self, name: str) -> Any:
        """Imports and returns the object, of any kind, behind a name."""
        return self.load(None, name)

    def layer(self, name: str) -> type[Configurable]:
        return self._load_configurable("layer", name)

    def model(self, name: str) -> type[Configurable]:
        return self._load_configurable("model", name)

    def learner(self, name: str) -> type[Configurable]:
        return self._load_configurable("learner", name)

    def data_source(self, name: str) -> type[Configurable]:
        return self._load_configurable("data-source", name)

    def tokenizer(self, name: str) -> type[Configurable]:
        return self._load_configurable("tokenizer", name)

    def writer(self, name: str) -> type[Configurable]:
        return self._load_configurable("writer", name)

    def optimizer(self, name: str) -> Callable[..., Any]:
        return self._load_callable("optimizer", name)

    def schedule(self, name: str) -> Callable[..., Any]:
        return self._load_callable("schedule", name)

    def experiment(self, name: str) -> Callable[..., ConfigBase]:
        return self._load_callable("experiment", name)

    def name_of(self, target: object) -> str | None:
        """Returns the unique name of a registered class or function; None for any other object."""
        where = f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', '')}"
        component = self._by_target.get(where)
        return self.unique_name(component) if component else None

    def unique_name(self, component: Registered) -> str:
        """Returns `distribution/name`, or `distribution/kind/name` where one word means two."""
        if len(self.resolve(component.qualified_name)) == 1:
            return component.qualified_name
        return f"{component.distribution}/{component.kind}/{component.name}"

    def conflicts(self, component: Registered) -> tuple[Registered, ...]:
        """Returns the components of other plugins with the same kind and bare name."""
        return tuple(
            other
            for other in self._by_name[component.name]
            if other.kind == component.kind and other != component
        )

    def fingerprint(self) -> dict[str, str]:
        """Returns the distributions in use and their versions, for run metadata and checkpoints."""
        return {p.distribution: p.version for p in self.plugins if p.status == "ok"}

    def _load_callable(self, kind: str, name: str) -> Callable[..., Any]:
        component = self.get(kind, name)
        target = component.load()
        if not callable(target):
            raise _unlike(component, "a class or function", target)
        return cast(Callable[..., Any], target)

    def _load_configurable(self, kind: str, name: str) -> type[Configurable]:
        component = self.get(kind, name)
        target = component.load()
        if not (isinstance(target, type) and issubclass(target, Configurable)):
            raise _unlike(component, "a subclass of Configurable", target)
        return target

    def _unknown(self, kind: str | None, name: str, candidates: tuple[Registered, ...]) -> str:
        *qualifiers, bare = name.split("/")
        meant = [c for c in candidates if qualifiers and all(map(c.answers_to, qualifiers))]
        names = sorted({component.name for component in meant or candidates})
        what = f"there is no {kind or 'component'} {name!r}.{near_names(bare, names)}"
        if 0 < len(names) <= _MANY:
            where = f"In {'/'.join(qualifiers)}" if meant else "Installed"
            what += f" {where}: {', '.join(names)}."
        else:
            what += f" `axl components{f' {kind}' if kind else ''}` lists them."
        unused = [plugin.distribution for plugin in self.plugins if plugin.status != "ok"]
        if unused:
            what += f" Not in use: {', '.join(unused)} (`axl plugins` says why)."
        return what


def _unlike(component: Registered, expected: str, target: object) -> TargetError:
    return TargetError(
        f"{component.kind} {component.qualified_name} must be {expected}; "
        f"{component.record.target} is {target!r}"
    )


_registry: Registry | None = None
_lock = threading.RLock()  # a plugin that asks for the registry while it loads must not hang


def get_registry() -> Registry:
    """Returns the registry of this process; the first call discovers the installed plugins."""
    global _registry
    with _lock:
        if _registry is None:
            _registry = Registry(discover())
            for problem in _registry.problems:
                _logger.warning("%s", problem)
        return _registry


@contextlib.contextmanager
def use_registry(registry: Registry) -> Iterator[Registry]:
    """Within the block, `get_registry()` returns this registry and discovers nothing."""
    global _registry
    with _lock:
        previous, _registry = _registry, registry
    try:
        yield registry
    finally:
        with _lock:
            _registry = previous
