"""The contract of kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.plugins import KernelRecord, get_registry
from axlearn_core.testing.contracts.component import NamedContract
from axlearn_core.testing.contracts.subject import compiled, is_float
from axlearn_core.testing.contracts.trees import assert_trees_close
from axlearn_core.testing.registries import isolated_registry


class Case(NamedTuple):
    """What a kernel is called with."""

    spec: Any  # the op's specification
    inputs: Any  # the op's arrays

    def on(self, platform: str) -> Case:
        """Returns the case as it is on another platform, for the choice among kernels."""
        return self._replace(spec=replace(self.spec, platform=platform))


class KernelContract(NamedContract):
    """A kernel computes what the reference does, with its gradients, or says why it cannot.

    A test file of a plugin holds::

        class TestAcmeAttention(KernelContract):
            name = "acme-kernels/attention.acme"

            def cases(self, rng):
                qkv = rng.normal(size=(3, 2, 8, 4, 16)).astype("float32")
                return {"causal": self.case(attention, *qkv, mask=causal())}
    """

    kind: ClassVar[str] = "kernel"
    reference: ClassVar[str | None] = None  # registered name; None: core's `OP.reference`
    # That cases are on; None: the one that the kernel's record needs, or else where the tests run.
    # For a kernel of other hardware that a CPU can compute too, or interpret.
    platform: ClassVar[str | None] = None
    # float32 keeps 24 bits, 6e-8; the sums of an example are short.
    tolerance: ClassVar[float] = 1e-5
    # bfloat16 keeps 8 bits, 2^-9 for each rounding, of which a kernel makes some.
    narrow_tolerance: ClassVar[float] = 2.0**-6

    def cases(self, rng: np.random.Generator) -> dict[str, Case]:
        """Returns cases that the kernel can do, by what is special about each."""
        raise NotImplementedError(
            f"{type(self).__name__} needs cases: define cases(self, rng) and return "
            "{'what is special': self.case(op, *arrays, **options)}, made with the numpy generator"
        )

    def refusals(self, rng: np.random.Generator) -> dict[str, Case]:
        """Returns cases that the kernel cannot do, by words of the reason that it gives."""
        return {}

    def case(self, op: Callable[..., Any], *arrays: Any, **options: Any) -> Case:
        """Returns what a kernel is called with when a layer calls the op so."""
        name = self._op()
        platform = self.platform or getattr(self.registered().record, "platform", None)
        record = KernelRecord(f"{name}.caught", f"{__name__}:Catching", "Raises its case.", op=name)
        with isolated_registry(record):
            try:
                op(*arrays, **options)
            except Caught as caught:
                return caught.case.on(platform) if platform else caught.case
        raise AssertionError(f"{op} has not asked for a kernel of {name}")

    def kernel(self) -> Any:
        return self.registered().load()()

    def _op(self) -> str:
        record = self.registered().record
        assert isinstance(record, KernelRecord)
        return record.op

    def test_its_name_starts_with_its_op(self) -> None:
        assert self.registered().name.startswith(f"{self._op()}.")

    def test_it_supports_its_cases(self) -> None:
        for name, case in self.cases(_rng()).items():
            reason = self.kernel().supports(case.spec)
            assert reason is None, f"{name}: {reason}"

    def test_it_says_why_it_refuses(self) -> None:
        for words, case in self.refusals(_rng()).items():
            reason = self.kernel().supports(case.spec)
            assert isinstance(reason, str) and words in reason, f"{words!r} is not in {reason!r}"

    def test_results_and_gradients_equal_the_references(self) -> None:
        for name, case in self.cases(_rng()).items():
            got, want = run(self.kernel(), case), run(self._reference(), case)
            try:
                assert_trees_close(got, want, tolerance=self.tolerance)
            except AssertionError as error:
                error.add_note(f"in case {name!r}: {case.spec}")
                raise

    def test_bfloat16_comes_in_and_out(self) -> None:
        """The reference computes in float32 with the same, rounded inputs."""
        kernel, reference = self.kernel(), self._reference()
        for name, case in self.cases(_rng()).items():
            inputs, spec = _cast(case.inputs, "bfloat16"), replace(case.spec, dtype="bfloat16")
            if kernel.supports(spec) is not None:
                continue

            @compiled
            def both(inputs: Any, wide: Any = case.spec, narrow: Any = spec) -> Any:
                return kernel(narrow, inputs), reference(wide, _cast(inputs, "float32"))

            got, want = both(inputs)
            dtypes = [
                x.dtype for x in jax.tree.leaves(jax.eval_shape(partial(reference, spec), inputs))
            ]
            assert [x.dtype for x in jax.tree.leaves(got)] == dtypes, name
            assert_trees_close(_cast(got, "float32"), want, tolerance=self.narrow_tolerance)

    def _reference(self) -> Any:
        name = self.reference or f"axlearn-core/{self._op()}.reference"
        return get_registry().load("kernel", name)()


def run(kernel: Any, case: Case) -> Any:
    """Returns the outputs, and the gradients of their product with random numbers by all floats."""
    structure: Any
    leaves, structure = jax.tree.flatten(case.inputs)

    def output(floats: list[Any]) -> Any:
        remaining = iter(floats)
        arrays = [next(remaining) if is_float(leaf) else leaf for leaf in leaves]
        return kernel(case.spec, structure.unflatten(arrays))

    @compiled
    def both(floats: list[Any]) -> Any:
        result, pull = jax.vjp(output, floats)
        rng = np.random.default_rng(1)
        return result, pull(
            jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), result)
        )

    return both([leaf for leaf in leaves if is_float(leaf)])


class Caught(Exception):
    """Carries the case that a kernel was called with."""

    def __init__(self, case: Case):
        self.case = case


class Catching:
    """The only kernel there is while a case is made."""

    priority = 0

    def supports(self, spec: Any) -> None:
        return None

    def __call__(self, spec: Any, inputs: Any) -> Any:
        raise Caught(Case(spec, inputs))


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if is_float(x) else x, tree)
