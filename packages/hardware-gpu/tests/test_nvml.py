"""Readings of GPUs, from a library that answers as NVIDIA's does."""

from types import SimpleNamespace

import pytest

from axlearn_hardware_gpu import NvidiaGPU, nvml


class NVMLError(Exception):
    pass


class Library:
    """Two GPUs: one works and one rests."""

    NVMLError = NVMLError

    def __init__(self, *, mig=False):
        self._mig = mig

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return {"GPU-a": 0, "GPU-b": 1}[uuid]

    def nvmlDeviceGetUtilizationRates(self, gpu):
        if self._mig:
            raise NVMLError
        return SimpleNamespace(gpu=(90, 10)[gpu])

    def nvmlDeviceGetPowerUsage(self, gpu):
        return (700_000, 100_000)[gpu]

    def nvmlDeviceGetTemperature(self, gpu, sensor):
        return (70, 40)[gpu]


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setattr(nvml, "_library", Library)


def test_readings_are_of_all_gpus_together(library):
    assert nvml.read({}) == {"utilization": 0.5, "power_watts": 800, "temperature_celsius": 70}


@pytest.mark.parametrize("visible", ["1", "GPU-b"])
def test_hidden_gpus_are_not_read(library, visible):
    readings = nvml.read({"CUDA_VISIBLE_DEVICES": visible})
    assert readings == {"utilization": 0.1, "power_watts": 100, "temperature_celsius": 40}


def test_what_is_not_told_is_left_out(monkeypatch):
    monkeypatch.setattr(nvml, "_library", lambda: Library(mig=True))
    assert nvml.read({}).keys() == {"power_watts", "temperature_celsius"}


def test_a_host_without_the_driver_tells_nothing(monkeypatch):
    monkeypatch.setattr(nvml, "_library", lambda: None)
    assert NvidiaGPU().readings() == {}
