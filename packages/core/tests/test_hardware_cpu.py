"""The CPU backend, and what all backends share."""

import resource

import jax
import pytest

from axlearn_core.hardware import CPU, HardwareError, explicit_cluster, slurm_cluster

CLUSTER = {
    "AXLEARN_COORDINATOR": "host0:1234",
    "AXLEARN_PROCESS_COUNT": "2",
    "AXLEARN_PROCESS_INDEX": "1",
}


def test_the_peak_is_unknown_unless_given(monkeypatch):
    monkeypatch.delenv("AXLEARN_CPU_PEAK_FLOPS", raising=False)
    assert CPU().peak_flops(jax.devices("cpu"), "float32") is None


def test_a_given_peak_is_that_of_all_virtual_devices_together(monkeypatch):
    monkeypatch.setenv("AXLEARN_CPU_PEAK_FLOPS", "180e9")
    devices = jax.devices("cpu")[:1] * 8
    assert CPU().peak_flops(devices, "float32") == 180e9


@pytest.mark.parametrize("given", ["fast", "-1", "0", "nan"])
def test_a_peak_that_is_no_number_is_refused(monkeypatch, given):
    monkeypatch.setenv("AXLEARN_CPU_PEAK_FLOPS", given)
    with pytest.raises(HardwareError, match="must be operations per second, such as 180e9"):
        CPU()


def test_calibration_makes_the_peak_known():
    cpu = CPU()
    assert cpu.calibrate(size=64, rounds=2) == cpu.peak_flops(jax.devices("cpu"), "float32") > 1e6


def test_memory_is_that_of_the_process():
    reading = CPU().memory(jax.devices("cpu")[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # The kernel counts pages lazily, in batches per thread: allow 5%.
    assert reading.peak == pytest.approx(peak, rel=0.05)
    assert reading.in_use <= reading.peak < reading.limit


def test_an_unknown_device_kind_has_no_chip():
    assert CPU().chip("NVIDIA Imaginary") is None


def test_a_cluster_can_be_described_by_variables():
    assert explicit_cluster(CLUSTER) == {
        "coordinator_address": "host0:1234",
        "num_processes": 2,
        "process_id": 1,
    }
    assert CPU().distributed_arguments(CLUSTER) == explicit_cluster(CLUSTER)


def test_half_a_cluster_is_refused():
    with pytest.raises(HardwareError, match="set without AXLEARN_PROCESS_INDEX"):
        explicit_cluster({k: v for k, v in CLUSTER.items() if k != "AXLEARN_PROCESS_INDEX"})


@pytest.mark.parametrize(("index", "message"), [("2", "less than"), ("x", "whole numbers")])
def test_a_process_outside_its_cluster_is_refused(index, message):
    with pytest.raises(HardwareError, match=message):
        explicit_cluster(CLUSTER | {"AXLEARN_PROCESS_INDEX": index})


def test_slurm_is_left_to_jax_when_there_are_several_tasks():
    assert slurm_cluster({"SLURM_STEP_NUM_TASKS": "4"}) == {}
    assert slurm_cluster({"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert CPU().distributed_arguments({}) is None


def test_preparing_the_process_twice_does_no_harm():
    CPU().prepare_process()
    CPU().prepare_process()
    assert sum(bytearray(b"\1") * (1 << 20)) == 1 << 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_NUM_CPU_DEVICES", "640"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=640 --xla_other=1"),
    ],
)
def test_more_virtual_devices_than_cores_get_threads_to_wait_in(monkeypatch, name, value):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv(name, value)
    (setting,) = CPU().settings()
    assert (setting.name, setting.value) == ("NPROC", "2560")


def test_one_device_has_no_settings(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert CPU().settings() == ()
