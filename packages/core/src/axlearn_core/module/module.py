"""Module: a node of the tree that computes."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax

from axlearn_core.config import Configurable
from axlearn_core.config.record import ConfigBase
from axlearn_core.module.context import (
    InvocationContext,
    OutputCollection,
    Tree,
    activate,
    active_context,
    current_context,
    fold_in_name,
)

F = TypeVar("F", bound=Callable[..., Any])
_NO_CONTEXT = "_axlearn_no_context"


def no_context(method: F) -> F:
    """Marks a public method that needs no invocation context (it reads only the config)."""
    setattr(method, _NO_CONTEXT, True)
    return method


class Module(Configurable):
    """A named node with children and without arrays.

    Calling a public method of a child pushes the child's invocation context: there, `self.param`,
    `self.prng_key`, `self.is_training` and the `add_*` methods are available. An instance never
    changes after it is built, so threads may share it.
    """

    class Config(Configurable.Config):
        """A module's fields."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, member in list(vars(cls).items()):
            if not inspect.isfunction(member) or name.startswith("_"):
                continue
            # An override needs no context where the method it overrides needs none.
            versions = (vars(base).get(name) for base in cls.__mro__)
            if not any(hasattr(version, _NO_CONTEXT) for version in versions):
                setattr(cls, name, _in_context(member))

    def __init__(self, config: ConfigBase, *, name: str = "root", parent: Module | None = None):
        super().__init__(config)
        self.name = name
        self.parent = parent
        self.path: str = f"{parent.path}.{name}" if parent else name
        self.children: dict[str, Module] = {}

    def add_child(self, name: str, config: ConfigBase) -> Any:
        """Builds a child from its config and returns it. Only for use in `__init__`."""
        if not name.isidentifier() or name.startswith("_"):
            raise ValueError(f"a child's name must be a public identifier, got {name!r}")
        if name in self.children:
            raise ValueError(f"{self.path} already has a child {name!r}; choose another name")
        child = config.instantiate(name=name, parent=self)
        if isinstance(child, Module):
            self.children[name] = child
        return child

    # What a call may use.

    @property
    def is_training(self) -> bool:
        """Whether the current call trains (dropout on) or evaluates."""
        return current_context().is_training

    def param(self, name: str) -> jax.Array:
        """Returns one of this module's own parameters."""
        state = self._context().state
        if name not in state:
            held = ", ".join(sorted(state)) or "nothing"
            raise ValueError(f"{self.path} was called without its parameter {name!r}; got: {held}")
        return cast(jax.Array, state[name])

    def prng_key(self, purpose: str = "") -> jax.Array:
        """Returns this call's random key for a purpose; another purpose, another key."""
        key = self._context().random_key()
        # The colon keeps purposes apart from the children of the same names.
        return fold_in_name(key, f":{purpose}") if purpose else key

    def add_summary(self, name: str, value: Any) -> None:
        """Reports a value (scalar or array) to the metrics writers."""
        self._add("summaries", name, value)

    def add_state_update(self, name: str, value: Any) -> None:
        """Sets the next value of one of this module's non-trainable parameters."""
        self._add("state_updates", name, value)

    def add_module_output(self, name: str, value: Any) -> None:
        """Hands a value to whoever called `functional`."""
        self._add("module_outputs", name, value)

    def add_loss(self, name: str, value: jax.Array) -> None:
        """Adds an auxiliary loss, [batch, seq]: what each token's own loss grows by.

        The model multiplies it by the target weights, like any loss, so N micro-batches equal one
        batch. Below a scan it comes out with leading axes, one entry per layer.
        """
        self._add("losses", name, value)

    def auxiliary_losses(self, child: str | None = None) -> list[jax.Array]:
        """Returns what the children, or one, called so far have added, each [..., batch, seq]."""
        added = self._context().outputs.losses
        losses: list[jax.Array] = jax.tree.leaves(added if child is None else added.get(child))
        return losses

    @contextlib.contextmanager
    def provide(self, name: str, value: Any) -> Iterator[None]:
        """Lets all descendants that are called in the block read a value, of any depth.

        For what belongs to a whole call, such as which adapter each row of the batch uses, and is
        read by few layers far below, which nobody between knows of. Arrays may be traced: the value
        goes through jit, grad, scan, vmap (the same for all copies) and remat. None takes away
        what was provided further up.
        """
        with activate(self._context().providing(name, value)):
            yield

    def provided(self, name: str) -> Any:
        """Returns what the nearest caller provides by this name, or None if nobody does."""
        return self._context().read_provided(name)

    def _add(self, kind: str, name: str, value: Any) -> None:
        added = OutputCollection(**{kind: {name: value}})
        self._context().outputs.merge(added, self.path)

    def _context(self) -> InvocationContext:
        context = current_context()
        if context.module is not self:
            raise RuntimeError(
                f"{self.path} is not the module being called ({context.module.path} is); "
                "reach its parameters through one of its own public methods"
            )
        return context


def _in_context(method: F) -> F:
    @functools.wraps(method)
    def call(self: Module, *args: Any, **kwargs: Any) -> Any:
        context = active_context()
        if context is None or context.module is self:
            return method(self, *args, **kwargs)
        with context.enter(self):
            return method(self, *args, **kwargs)

    return cast(F, call)


def functional(
    module: Module,
    *,
    state: Tree,
    prng_key: jax.Array | None,
    inputs: Mapping[str, Any] | Sequence[Any],
    method: str = "forward",
    is_training: bool = False,
    provided: Mapping[str, Any] | None = None,
) -> tuple[Any, OutputCollection]:
    """Calls a method of a module as a pure function: the one door from JAX.

    Args:
        module: any module; its parents play no role.
        state: its parameters, as `initialize` returns them.
        prng_key: a key of any JAX key type, or None for a call without randomness.
        inputs: keyword arguments (a mapping) or positional arguments (a tuple or list).
        method: the public method to call.
        is_training: whether layers such as dropout are active.
        provided: values by name for whoever reads them below; see `Module.provide`.

    Returns:
        What the method returns, and its side outputs.
    """
    if not isinstance(inputs, (Mapping, tuple, list)):
        raise TypeError(
            "inputs must be a mapping (keyword arguments) or a tuple or list (positional "
            f"arguments), got {type(inputs).__name__}; for one argument write inputs=(x,)"
        )
    key = None if prng_key is None else lambda: prng_key
    context = InvocationContext(module, state, is_training, key, provided=dict(provided or {}))
    function = getattr(module, method)
    with activate(context):
        result = function(**inputs) if isinstance(inputs, Mapping) else function(*inputs)
    return result, context.outputs
