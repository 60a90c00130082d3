"""Which kernel computes an op, what is said of the others, and how one is forced."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest

from axlearn_core import _plugin
from axlearn_core.kernels import (
    Candidate,
    KernelError,
    attention,
    candidates_of,
    causal,
    choose,
    recording_choices,
    select,
    window,
)
from axlearn_core.plugins import KernelRecord
from axlearn_core.testing.registries import isolated_registry


class Plain:
    priority = 0

    def supports(self, spec):
        return None

    def __call__(self, spec, inputs):
        return "plain"


class OnlyEven:
    priority = 100

    def supports(self, spec):
        return "the number is odd" if spec % 2 else None

    def __call__(self, spec, inputs):
        return "even"


def _record(name, attribute, op="double"):
    return KernelRecord(f"{op}.{name}", f"{__name__}:{attribute}", "A kernel.", op=op)


@pytest.fixture
def kernels():
    with isolated_registry(
        _record("plain", "Plain"), _record("even", "OnlyEven"), _record("other", "Plain", "halve")
    ):
        yield


def test_the_highest_priority_that_supports_the_case_is_chosen(kernels):
    assert choose("double", 2).name == "test/double.even"


def test_a_refused_kernel_gives_its_reason(kernels):
    choice = choose("double", 3)
    assert choice.name == "test/double.plain"
    assert choice.reasons == (("test/double.even", "the number is odd"),)
    assert str(choice) == "3: test/double.plain (chosen)\n  not test/double.even: the number is odd"


@pytest.mark.parametrize("name", ["plain", "double.plain", "test/plain", "test/double.plain"])
def test_a_kernel_can_be_forced_by_name(kernels, name):
    assert choose("double", 2, name).name == "test/double.plain"


def test_an_unknown_kernel_is_refused_with_the_names_of_this_op(kernels):
    with pytest.raises(
        KernelError, match=r"no double kernel 'evn'. Did you mean 'even'\? Installed: even, plain\."
    ):
        choose("double", 2, "evn")


def test_a_forced_kernel_that_does_not_support_the_case_gives_its_reason(kernels):
    with pytest.raises(
        KernelError, match=r"does not support 3:\n  test/double.even: the number is odd"
    ):
        choose("double", 3, "even")


def test_all_kernels_of_an_op_are_asked_for_a_listing(kernels):
    assert candidates_of(choose("double", 3)) == [
        Candidate("test/double.even", 100, False, "the number is odd"),
        Candidate("test/double.plain", 0, True, None),
    ]


def test_what_is_only_chosen_is_not_called(kernels):
    with recording_choices(choosing_only=True) as choices:
        assert select("double", 2)(2, ()) == "plain"
    assert [choice.name for choice in choices] == ["test/double.even"]
    assert select("double", 2)(2, ()) == "even"


@dataclass(frozen=True)
class OnAcme:
    platform: str = "acme"


def test_kernels_of_another_platform_are_not_imported():
    gpu = KernelRecord("double.gpu", "no_such_module:Kernel", "Fast.", op="double", platform="gpu")
    acme = KernelRecord("double.acme", f"{__name__}:Plain", "Ours.", op="double", platform="acme")
    with isolated_registry(gpu, acme):
        choice = choose("double", OnAcme())
        assert candidates_of(choice)[1] == Candidate(
            "test/double.gpu", None, False, "needs a gpu, this is acme"
        )
        with pytest.raises(KernelError, match=r"double\.gpu: needs a gpu, this is acme"):
            choose("double", OnAcme(), "gpu")
    assert choice.name == "test/double.acme"


def test_an_op_without_kernels_says_so(kernels):
    with pytest.raises(
        KernelError, match="no installed triple kernel supports 1: none is installed"
    ):
        choose("triple", 1)


def test_a_kernel_that_cannot_be_imported_is_a_reason_and_not_the_end():
    broken = KernelRecord("double.broken", "no_such_module:Kernel", "Broken.", op="double")
    with isolated_registry(broken, _record("plain", "Plain")):
        choice = choose("double", 1)
    assert choice.name == "test/double.plain"
    assert "No module named 'no_such_module'" in choice.reasons[0][1]


def _attend(length, **options):
    x = np.zeros((1, length, 2, 4), np.float32)
    return attention(x, x, x, mask=causal() & window(3), **options)


def test_choices_made_while_tracing_are_recorded_once_each():
    # Without the kernels of other packages that may be installed.
    with isolated_registry(axlearn_core=_plugin), recording_choices() as choices:
        for _ in range(2):
            jax.eval_shape(lambda: _attend(8))
        jax.eval_shape(lambda: _attend(8, query_positions=np.arange(8)))
    assert [choice.name for choice in choices] == [
        "axlearn-core/attention.blocked",
        "axlearn-core/attention.reference",
    ]
    assert str(choices[1]) == (
        "attention(batch 1, 8 queries, 8 keys, 2/2 heads of 4, float32, causal & window(3), cpu): "
        "axlearn-core/attention.reference (chosen)\n"
        "  not axlearn-core/attention.blocked: "
        "positions are known only when running, so no block can be skipped"
    )


def test_recordings_nest():
    with recording_choices() as outer:
        with recording_choices() as inner:
            jax.eval_shape(lambda: _attend(8))
        jax.eval_shape(lambda: _attend(9))
    assert (len(inner), len(outer)) == (1, 2)


def test_forced_blocked_attention_refuses_given_positions():
    with pytest.raises(KernelError, match="positions are known only when running"):
        _attend(8, query_positions=np.arange(8), implementation="blocked")
