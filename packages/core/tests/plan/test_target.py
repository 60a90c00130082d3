"""Machines by name."""

from __future__ import annotations

import jax
import pytest

from axlearn_core.hardware import CPU, HardwareError
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import Registry, get_registry


def test_the_name_is_that_which_mesh_rules_match() -> None:
    target = parse_target("cpu-8", get_registry())
    assert (target.name, target.count, target.domain) == ("cpu-host-8", 8, 8)
    assert parse_target(target.name, get_registry()).name == target.name


def test_cpu_devices_are_those_of_this_process() -> None:
    assert parse_target("cpu-4", get_registry()).with_devices().devices == tuple(jax.devices()[:4])


def test_too_many_cpu_devices_are_told_how_to_come_by() -> None:
    target = parse_target("cpu-4096", get_registry()).with_devices()
    assert target.devices is None
    assert target.reason is not None and "JAX_NUM_CPU_DEVICES=4096" in target.reason
    (count,) = (s for s in target.compile_settings if s.name == "JAX_NUM_CPU_DEVICES")
    assert count.value == "4096"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu", "does not end in a number of devices. Write one of cpu-host-8"),
        ("cpu-0", "does not end in a number"),
        ("cpu-hots-8", "there is no chip 'hots' for cpu .*Did you mean 'host'.*Chips: host"),
        ("host-8", "host-8 lacks its platform. Write cpu-host-8, say"),
        ("cpu-host", "Write cpu-host-8, or another number"),
        ("cup-8", "should be platform-chip-count.* Did you mean 'cpu'"),
    ],
)
def test_a_machine_that_there_is_not_is_named_with_near_ones(text: str, message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        parse_target(text, get_registry())


def test_a_platform_whose_package_is_missing_comes_with_the_command() -> None:
    with pytest.raises(HardwareError, match="pip install axlearn-hardware-tpu"):
        parse_target("tpu-v5p-64", Registry())


def test_a_backend_that_compiles_for_nothing_says_so() -> None:
    class Bare(CPU):
        platform = "bare"

        def compile_only_devices(self, chip, count):  # type: ignore[no-untyped-def]
            return super(CPU, self).compile_only_devices(chip, count)

    target = Target(Bare(), Bare().chips[0], 8).with_devices()
    assert target.reason is not None and "how to compile for bare" in target.reason
