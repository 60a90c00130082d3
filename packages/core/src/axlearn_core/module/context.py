"""The invocation context: what one call of one module may read and write.

Modules hold no arrays. Parameters and random keys come in with the context, side outputs leave with
it, so every computation is a pure function of its arguments.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import jax

if TYPE_CHECKING:
    from axlearn_core.module.module import Module

P = ParamSpec("P")
T = TypeVar("T")
Tree = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class OutputCollection:
    """Side outputs of a call, nested by child name.

    Attributes:
        summaries: scalars or arrays for the metrics writers.
        state_updates: new values of non-trainable parameters.
        module_outputs: anything that a caller asked to look at.
        losses: [..., batch, seq], an auxiliary loss of each token; the model weights and adds them.
    """

    summaries: Tree = dataclasses.field(default_factory=dict)
    state_updates: Tree = dataclasses.field(default_factory=dict)
    module_outputs: Tree = dataclasses.field(default_factory=dict)
    losses: Tree = dataclasses.field(default_factory=dict)

    def merge(self, other: OutputCollection, path: str, under: str | None = None) -> None:
        """Adds what `other` holds, below the child name `under` if one is given.

        Raises:
            ValueError: if a name is taken already.
        """
        for field in dataclasses.fields(self):
            branch = getattr(other, field.name)
            if branch:
                added = branch if under is None else {under: branch}
                _merge_tree(getattr(self, field.name), added, f"{field.name} of {path}")


def _merge_tree(target: Tree, source: Mapping[str, Any], where: str) -> None:
    for name, value in source.items():
        if name not in target:
            target[name] = dict(value) if isinstance(value, dict) else value
        elif isinstance(target[name], dict) and isinstance(value, dict):
            _merge_tree(target[name], value, f"{where}.{name}")
        else:
            raise ValueError(
                f"{name!r} is already in the {where}. One call may add a name once; if the module "
                "is called several times, give each call a child of its own, or aggregate first"
            )


@dataclasses.dataclass
class InvocationContext:
    """One call of one module.

    Attributes:
        module: the module that is being called.
        state: its parameters, nested by child name.
        is_training: whether layers such as dropout are active.
        key: derives the random key of this call, or None if the call has no randomness. It is a
            function, computed where it is used, so that no key of an outer trace is kept.
        outputs: the side outputs so far.
        calls: how often each child was called so far.
        provided: what callers further up provide to all below, by name.
    """

    module: Module
    state: Tree
    is_training: bool
    key: Callable[[], jax.Array] | None
    outputs: OutputCollection = dataclasses.field(default_factory=OutputCollection)
    calls: dict[str, int] = dataclasses.field(default_factory=dict)
    provided: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def random_key(self) -> jax.Array:
        if self.key is None:
            raise ValueError(
                f"{self.module.path} needs a random key; pass prng_key to functional()"
            )
        return self.key()

    @contextlib.contextmanager
    def enter(self, module: Module) -> Iterator[None]:
        """Runs the block in the context of a descendant and merges its side outputs afterwards."""
        if module.parent is None or module.parent is module:
            raise ValueError(
                f"{module.path} was called from {self.module.path}, which is not its ancestor. "
                "A parent calls its own children; use functional() for an unrelated module"
            )
        if module.parent is not self.module:
            with self.enter(module.parent), current_context().enter(module):
                yield
            return
        child = self._child(module)
        with activate(child):
            yield
        self.outputs.merge(child.outputs, self.module.path, under=module.name)

    def _child(self, module: Module) -> InvocationContext:
        count = self.calls.get(module.name, 0)
        self.calls[module.name] = count + 1
        # The second call of the same child draws other numbers than the first.
        label = module.name if count == 0 else f"{module.name}#{count}"
        parent_key = self.key
        key = None if parent_key is None else lambda: fold_in_name(parent_key(), label)
        state = self.state.get(module.name, {})
        return InvocationContext(module, state, self.is_training, key, provided=self.provided)

    def providing(self, name: str, value: Any) -> InvocationContext:
        """Returns this context as it is within a block that provides a value."""
        return dataclasses.replace(self, provided={**self.provided, name: value})

    def read_provided(self, name: str) -> Any:
        value = self.provided.get(name)
        if value is _LEFT_BEHIND:
            raise RuntimeError(
                f"{self.module.path} reads {name!r}, which was provided outside of a function that "
                "capture_with_state made, and such a function takes no arrays along; hand it the "
                f"value as an argument, and let it call self.provide({name!r}, value) inside"
            )
        return value

    def fork(self, **changes: Any) -> InvocationContext:
        """Returns a context for the same call with side outputs and call counts of its own."""
        return dataclasses.replace(
            self, outputs=OutputCollection(), calls=dict(self.calls), **changes
        )


_LEFT_BEHIND = object()

_current: contextvars.ContextVar[InvocationContext | None] = contextvars.ContextVar(
    "invocation", default=None
)


def active_context() -> InvocationContext | None:
    """Returns the context of the innermost call, or None outside any."""
    return _current.get()


def current_context() -> InvocationContext:
    """Returns the context of the innermost call.

    Raises:
        RuntimeError: outside of any call.
    """
    context = _current.get()
    if context is None:
        raise RuntimeError(
            "no module is being called. Parameters, random keys and side outputs exist only during "
            "a call: run functional(module, state=..., prng_key=..., inputs=...)"
        )
    return context


@contextlib.contextmanager
def activate(context: InvocationContext) -> Iterator[InvocationContext]:
    """Makes `context` the current one within the block, for this thread only."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def fold_in_name(key: jax.Array, name: str) -> jax.Array:
    """Derives the key of a name, so that siblings do not depend on each other's order."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def capture(function: Callable[P, T]) -> Callable[P, tuple[T, OutputCollection]]:
    """Makes a function that calls modules safe for a JAX transformation that runs it at once.

    The result returns `(function(...), side outputs)` and touches nothing outside itself. Give the
    side outputs that come out of the transformation to `emit`::

        result, side = jax.checkpoint(capture(self.ff.forward))(x)
        emit(side)

    Capture anew for every use: JAX remembers the trace of a function it has seen, and with it the
    parameters of the call in which it was traced. The function closes over parameters, which
    `shard_map` and `custom_vjp` do not allow: for these there is `capture_with_state`.
    """
    outer = current_context()
    before = outer.fork()

    def pure(*args: P.args, **kwargs: P.kwargs) -> tuple[T, OutputCollection]:
        if current_context() is not outer:
            raise RuntimeError(
                f"a function captured in a call of {outer.module.path} ran in another call; "
                "capture where the function is used"
            )
        with activate(before.fork()) as context:
            result = function(*args, **kwargs)
        outer.calls.update(context.calls)
        return result, context.outputs

    return pure


def capture_with_state(
    function: Callable[P, T],
) -> Callable[Concatenate[Tree, jax.Array | None, P], tuple[T, OutputCollection]]:
    """Like `capture`, but takes the parameters and the random key as arguments.

    For transformations that allow no closure (`shard_map`) or run the function later
    (`custom_vjp`)::

        call = current_context()
        ff = jax.shard_map(capture_with_state(self.ff.forward), in_specs=..., out_specs=...)
        result, side = ff(call.state, call.random_key(), x)
        emit(side)

    What was provided from above (`Module.provide`) has to be an argument too.
    """
    outer = current_context()
    calls = outer.calls
    # A function kept for later holds no arrays.
    provided = {name: _LEFT_BEHIND for name, value in outer.provided.items() if value is not None}
    before = outer.fork(state={}, key=None, provided=provided)

    def pure(
        state: Tree, key: jax.Array | None, /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, OutputCollection]:
        random_key = None if key is None else lambda: key
        with activate(before.fork(state=state, key=random_key)) as context:
            result = function(*args, **kwargs)
        calls.update(context.calls)
        return result, context.outputs

    return pure


def emit(outputs: OutputCollection) -> None:
    """Adds captured side outputs to the current call."""
    context = current_context()
    context.outputs.merge(outputs, context.module.path)
