"""What a command sets before jax starts."""

import os

import pytest

from axlearn_core import _plugin
from axlearn_core.cli import machine
from axlearn_core.hardware import HardwareError
from axlearn_core.testing.registries import isolated_registry


def test_on_a_cpu_jax_looks_for_nothing_else(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.delenv("JAX_PLATFORMS")
    with isolated_registry(axlearn_core=_plugin) as registry:
        machine.start(registry)
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_a_jaxlib_that_does_not_fit_is_named_before_jax_starts(monkeypatch):
    monkeypatch.setattr(machine, "jax_mismatch", lambda: "jax 1 needs jaxlib 1: pip install it")
    with (
        isolated_registry(axlearn_core=_plugin) as registry,
        pytest.raises(HardwareError, match="pip install it"),
    ):
        machine.start(registry)
