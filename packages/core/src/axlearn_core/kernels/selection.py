"""Chooses the implementation of an op while tracing, and remembers why.

A kernel is a class, announced by a `KernelRecord` that names its op, with three members: see
`Kernel`. The one with the highest priority that supports the case is used. A record's name starts
with its op, as in `attention.blocked`; to force a kernel one may leave that out.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import zlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from axlearn_core.config import near_names
from axlearn_core.errors import UserError
from axlearn_core.module import current_context
from axlearn_core.plugins import PluginError, Registered, Registry, get_registry


class Kernel(Protocol):
    """One implementation of an op; built without arguments, and shared.

    A spec says what one device computes. The ops norm and cross_entropy leave it to the compiler
    to split a kernel of plain JAX over devices, which then gets whole arrays; a kernel that the
    compiler cannot split, such as one of Pallas, has `opaque = True` and gets a device's parts.

    What the compiler cannot look into, it cannot count either. Such a kernel has one more member,
    `flops(spec, program) -> float`: the floating-point operations of one of the programs that it
    puts into the compiled one, of which `program` holds the name. Plans add them up.
    """

    priority: int  # the highest is asked first: reference 0, plain JAX 10, hardware's own 100

    def supports(self, spec: Any) -> str | None:
        """Returns None if the kernel can do this case, or the reason why it cannot."""

    def __call__(self, spec: Any, inputs: Any) -> Any:
        """Computes the op; `spec` is what `supports` accepted, `inputs` a tuple of arrays."""


class KernelError(UserError):
    """No kernel, or not the forced one, can do what a layer asks for."""


@dataclass(frozen=True)
class Choice:
    """Which kernel computes an op, and why none of those that were asked before it does."""

    op: str
    spec: Hashable
    name: str  # qualified, such as "axlearn-core/attention.blocked"
    reasons: tuple[tuple[str, str], ...]  # (qualified name, reason) of the kernels that refused
    forced: bool

    def __str__(self) -> str:
        how = "forced" if self.forced else "chosen"
        lines = [f"{self.spec}: {self.name} ({how})"]
        return "\n".join(lines + [f"  not {name}: {reason}" for name, reason in self.reasons])


@dataclass(frozen=True)
class Candidate:
    """What became of one kernel in a choice."""

    name: str  # qualified
    priority: int | None  # None if it was not loaded
    chosen: bool
    reason: str | None  # why it refuses; None if it could do it


_recordings: contextvars.ContextVar[tuple[list[Choice], ...]] = contextvars.ContextVar(
    "kernel_choices", default=()
)
_choosing_only: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "kernel_choosing_only", default=False
)


@contextlib.contextmanager
def recording_choices(*, choosing_only: bool = False) -> Iterator[list[Choice]]:
    """Collects the distinct choices made while tracing inside the block, in their order.

    What each of the kernels computes is traced in a scope of its own, see `scope_of`.

    Args:
        choosing_only: Traces the reference, of priority 0, or what comes nearest, in place of the
            kernel that is chosen, for machines on which that cannot even be traced.
    """
    choices: list[Choice] = []
    tokens = _recordings.set((*_recordings.get(), choices)), _choosing_only.set(choosing_only)
    try:
        yield choices
    finally:
        _recordings.reset(tokens[0])
        _choosing_only.reset(tokens[1])


def choose(op: str, spec: Hashable, implementation: str | None = None) -> Choice:
    """Returns which kernel computes `op` for `spec`; see `select`."""
    return _choose(get_registry(), op, spec, implementation)[0]


def select(op: str, spec: Hashable, implementation: str | None = None) -> Kernel:
    """Returns the kernel that computes `op` for `spec`, and records the choice.

    Args:
        op: The name of the op specification, such as "attention".
        spec: What is known while tracing; its `str` is what errors and listings show.
        implementation: The name of the kernel to use, None to take the best that supports `spec`.

    Raises:
        KernelError: if there is none, or the forced one is unknown or does not support `spec`.
    """
    try:
        choice, kernel = _choose(get_registry(), op, spec, implementation)
    except KernelError as error:
        raise KernelError(f"{_caller()}{error}") from None
    for recording in _recordings.get():
        if choice not in recording:
            recording.append(choice)
    if _choosing_only.get():
        kernels, _ = _load(_candidates(get_registry(), op), spec)
        able = [kernel for _, kernel in kernels if kernel.supports(spec) is None]
        return min(able, key=lambda kernel: abs(kernel.priority), default=kernel)
    return _Scoped(kernel, scope_of(choice)) if _recordings.get() else kernel


def scope_of(choice: Choice) -> str:
    """Returns the name, part of each op_name, under which a recorded choice is in the program."""
    text = repr((choice.op, choice.spec, choice.name))
    return f"kernel_{zlib.crc32(text.encode()):08x}"


class _Scoped:
    """A kernel whose operations carry a name."""

    def __init__(self, kernel: Kernel, scope: str):
        self.priority = kernel.priority
        self.opaque = getattr(kernel, "opaque", False)
        self._kernel = kernel
        self._scope = scope

    def supports(self, spec: Any) -> str | None:
        return self._kernel.supports(spec)

    def __call__(self, spec: Any, inputs: Any) -> Any:
        with jax.named_scope(self._scope):
            return self._kernel(spec, inputs)


def kernel_of(choice: Choice) -> Kernel:
    """Returns the kernel that was chosen."""
    return _choose(get_registry(), choice.op, choice.spec, choice.name)[1]


def is_kernel(op: str, name: str) -> bool:
    """Returns whether `name` is that of a kernel of `op`."""
    try:
        _named(op, name, _candidates(get_registry(), op))
    except KernelError:
        return False
    return True


def candidates_of(choice: Choice) -> list[Candidate]:
    """Returns every kernel of a choice's op, those that were not asked too; highest first."""
    kernels, others = _load(_candidates(get_registry(), choice.op), choice.spec)
    asked = [
        Candidate(
            component.qualified_name,
            kernel.priority,
            component.qualified_name == choice.name,
            kernel.supports(choice.spec),
        )
        for component, kernel in kernels
    ]
    return asked + [Candidate(name, None, False, reason) for name, reason in others]


def _caller() -> str:
    """Returns the path of the module that is being called, for an error, if there is one."""
    try:
        return f"{current_context().module.path}: "
    except RuntimeError:
        return ""


@functools.lru_cache(maxsize=1024)
def _choose(
    registry: Registry, op: str, spec: Hashable, implementation: str | None
) -> tuple[Choice, Kernel]:
    candidates = _candidates(registry, op)
    if implementation is not None:
        candidates = [_named(op, implementation, candidates)]
    kernels, refusals = _load(candidates, spec)
    for candidate, kernel in kernels:
        reason = kernel.supports(spec)
        if reason is None:
            forced = implementation is not None
            name = candidate.qualified_name
            return Choice(op, spec, name, tuple(refusals), forced), kernel
        refusals.append((candidate.qualified_name, reason))
    raise KernelError(_refusal(op, spec, implementation, refusals))


def _candidates(registry: Registry, op: str) -> list[Registered]:
    return [c for c in registry.records("kernel") if getattr(c.record, "op", None) == op]


def _load(
    candidates: list[Registered], spec: Hashable
) -> tuple[list[tuple[Registered, Kernel]], list[tuple[str, str]]]:
    """Returns kernels by falling priority, and (qualified name, reason) of those not to ask."""
    kernels: list[tuple[Registered, Kernel]] = []
    others: list[tuple[str, str]] = []
    platform = getattr(spec, "platform", None)
    for candidate in candidates:
        needed = getattr(candidate.record, "platform", None)
        if needed not in (None, platform):
            others.append((candidate.qualified_name, f"needs a {needed}, this is {platform}"))
            continue
        try:
            kernels.append((candidate, candidate.load()()))
        except PluginError as error:  # one broken package must not stop the others' kernels
            others.append((candidate.qualified_name, str(error)))
    kernels.sort(key=lambda pair: -pair[1].priority)
    return kernels, others


def _named(op: str, name: str, candidates: list[Registered]) -> Registered:
    *qualifiers, bare = name.split("/")
    matches = [
        candidate
        for candidate in candidates
        if candidate.name in (bare, f"{op}.{bare}") and all(map(candidate.answers_to, qualifiers))
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        forms = " or ".join(match.qualified_name for match in matches)
        raise KernelError(f"{op} kernel {name!r} is provided more than once; write {forms}")
    names = sorted(candidate.name.removeprefix(f"{op}.") for candidate in candidates)
    listing = f"Installed: {', '.join(names)}." if names else "None is installed."
    raise KernelError(f"there is no {op} kernel {name!r}.{near_names(name, names)} {listing}")


def _refusal(
    op: str, spec: Hashable, implementation: str | None, refusals: list[tuple[str, str]]
) -> str:
    listing = "".join(f"\n  {name}: {reason}" for name, reason in refusals)
    if implementation is not None:
        advice = (
            "to take the best that supports it, leave the layer's field kernel (in Python, the "
            "argument implementation) unset; `axl kernels EXP` lists what every one says"
        )
        return f"the forced kernel does not support {spec}:{listing}\n{advice}"
    return f"no installed {op} kernel supports {spec}:{listing or ' none is installed'}"
