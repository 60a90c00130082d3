"""Settings reach the environment only where the user has set nothing."""

import subprocess
import sys

import pytest

from axlearn_core.hardware import CPU, EnvironmentSetting, apply_environment, wanted
from axlearn_core.hardware import environment as environment_module

SETTINGS = (
    EnvironmentSetting("XLA_FLAGS", "--xla_one=true", "first"),
    EnvironmentSetting("XLA_FLAGS", "--xla_two=2", "second"),
    EnvironmentSetting("LIBTPU_INIT_ARGS", "--xla_three=3", "third"),
    EnvironmentSetting("NCCL_X", "1", "fourth"),
)


class Machine(CPU):
    def settings(self):
        return SETTINGS


@pytest.fixture
def before_jax(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax", raising=False)


def test_settings_are_made_and_told(before_jax):
    environment = {}
    lines = apply_environment(Machine(), environment)
    assert environment == {
        "XLA_FLAGS": "--xla_one=true --xla_two=2",
        "LIBTPU_INIT_ARGS": "--xla_three=3",
        "NCCL_X": "1",
    }
    assert lines[0] == "XLA_FLAGS --xla_one=true  # first"
    assert len(lines) == 4


def test_a_variable_that_the_user_set_stays(before_jax):
    environment = {"NCCL_X": ""}
    apply_environment(Machine(), environment)
    assert environment["NCCL_X"] == ""


@pytest.mark.parametrize("given", ["--xla_one=false", "--xla_one", "--other=1 --xla_one=false"])
def test_a_flag_that_the_user_set_stays_and_others_follow_it(before_jax, given):
    environment = {"XLA_FLAGS": given}
    apply_environment(Machine(), environment)
    assert environment["XLA_FLAGS"] == f"{given} --xla_two=2"


def test_a_flag_counts_as_set_in_either_variable():
    kept = wanted(SETTINGS, {"XLA_FLAGS": "--xla_three=9"})
    assert "--xla_three=3" not in [setting.value for setting in kept]


def test_a_flag_whose_name_begins_like_ours_is_another(before_jax):
    environment = {"XLA_FLAGS": "--xla_one_more=1"}
    apply_environment(Machine(), environment)
    assert "--xla_one=true" in environment["XLA_FLAGS"]


def test_after_jax_nothing_is_set_and_the_user_is_told_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", environment_module)
    environment = {}
    (line,) = apply_environment(Machine(), environment)
    assert environment == {}
    assert "jax was imported before" in line
    assert "XLA_FLAGS='--xla_one=true --xla_two=2'" in line


def test_a_backend_without_wishes_is_silent_after_jax(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", environment_module)
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # which asks for many devices
    assert apply_environment(CPU(), {}) == []


def test_hardware_is_found_without_importing_jax():
    program = (
        "import os, sys\n"
        "from axlearn_core.hardware import apply_environment, detect\n"
        "from axlearn_core.plugins import get_registry\n"
        "detected = detect(get_registry(), os.environ)\n"
        "apply_environment(detected.hardware, os.environ)\n"
        "print(sorted(m for m in ('jax', 'jaxlib', 'numpy') if m in sys.modules))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
