"""What devices can do, and how full they are."""

import io
import json
import re

import jax
import numpy as np
import pytest

from axlearn_core import _plugin
from axlearn_core.hardware import CPU, Chip, MemoryReading
from axlearn_core.observe import utilization
from axlearn_core.observe.clock import Clock
from axlearn_core.observe.metrics import StepMetrics
from axlearn_core.observe.outlets import Outlets
from axlearn_core.observe.performance import Performance
from axlearn_core.observe.progress import Progress
from axlearn_core.observe.utilization import Utilization
from axlearn_core.observe.writers import JsonlWriter
from axlearn_core.plugins import HardwareRecord, Registry
from axlearn_core.testing.registries import isolated_registry
from axlearn_core.training.report import Report


class Cards(CPU):
    """Cards of 100 operations per second; each is fuller than the one before."""

    def __init__(self):
        self.chips = (Chip("card", ("cpu",), {"bfloat16": 100.0}, None, None, "", None, "here"),)

    def memory(self, device):
        return MemoryReading(device.id * 10, device.id * 20, None)

    def readings(self):
        return {"utilization": 0.5}


CARDS = HardwareRecord("cards", f"{__name__}:Cards", "Cards.", platform="cpu")


@pytest.fixture
def core():
    with isolated_registry(axlearn_core=_plugin):
        utilization._measured_peak.cache_clear()
        yield
        utilization._measured_peak.cache_clear()


@pytest.fixture
def cards():
    with isolated_registry(CARDS):
        yield Utilization(jax.devices(), "bfloat16", None)


@pytest.fixture
def measured(monkeypatch):
    """Counts measurements; each gives 1e9."""
    calls = []
    monkeypatch.setattr(CPU, "calibrate", lambda self, **_: calls.append(1) or 1e9)
    return calls


def test_a_cpu_is_measured_once_for_all_processes(core, measured, tmp_path):
    for _ in range(2):
        utilization._measured_peak.cache_clear()  # as a new process begins
        assert Utilization(jax.devices(), "float32", tmp_path).peak_flops() == 1e9
    assert len(measured) == 1


@pytest.mark.parametrize("content", ["", "{", "{}"])
def test_a_measurement_that_cannot_be_read_is_made_again(core, measured, tmp_path, content):
    (tmp_path / "cpu-peak-flops.json").write_text(content)
    assert Utilization(jax.devices(), "float32", tmp_path).peak_flops() == 1e9
    assert list(json.loads((tmp_path / "cpu-peak-flops.json").read_text()).values()) == [1e9]


def test_a_folder_that_cannot_be_written_does_no_harm(core, measured, tmp_path):
    (tmp_path / "file").write_text("")
    assert Utilization(jax.devices(), "float32", tmp_path / "file/x").peak_flops() == 1e9


def test_a_peak_that_the_user_gives_is_not_measured(core, measured, monkeypatch):
    monkeypatch.setenv("AXLEARN_CPU_PEAK_FLOPS", "5e9")
    assert Utilization(jax.devices(), "float32", None).peak_flops() == 5e9
    assert not measured


def test_the_memory_of_a_process_on_the_cpu_is_told(core):
    assert Utilization(jax.devices(), "float32", None).memory() > 1 << 20


def test_a_platform_that_nobody_knows_tells_nothing():
    with isolated_registry():
        unknown = Utilization(jax.devices(), "float32", None)
        assert (unknown.peak_flops(), unknown.memory()) == (None, None)


def test_performance_holds_what_is_known_only():
    performance = Performance(
        tokens_per_step=10, flops_per_step=4.0, peak_flops=None, memory=lambda: None
    )
    performance.start(1, 0.0)
    assert performance.measure(3, 0.0).keys() == {
        "seconds_per_step",
        "tokens_per_second",
        "data_wait",
    }


@pytest.fixture
def clock(monkeypatch):
    """Lets ten seconds pass between two looks at the clock."""
    seconds = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(seconds)))


def test_utilisation_is_what_was_done_of_what_could_be_done(clock):
    performance = Performance(
        tokens_per_step=50, flops_per_step=200.0, peak_flops=100.0, memory=lambda: 7
    )
    performance.start(1, waited=1.0)
    assert performance.measure(3, waited=3.0) == {
        "seconds_per_step": 5.0,
        "tokens_per_second": 10.0,
        "data_wait": 0.2,
        "mfu": 0.4,
        "memory_bytes": 7.0,
    }


def test_an_evaluation_between_two_records_is_left_out(clock):
    performance = Performance(
        tokens_per_step=50, flops_per_step=None, peak_flops=None, memory=lambda: None
    )
    performance.start(1, 0.0)
    performance.start(4, 0.0)  # after an evaluation
    assert performance.measure(6, 0.0)["seconds_per_step"] == 5.0


def test_an_interval_without_steps_measures_nothing(clock):
    performance = Performance(
        tokens_per_step=50, flops_per_step=None, peak_flops=None, memory=lambda: None
    )
    performance.start(4, 0.0)
    assert performance.measure(4, 0.0) == {}


def test_accelerators_add_up(cards):
    assert cards.peak_flops() == 100.0 * jax.device_count()


def test_the_fullest_accelerator_counts(cards):
    assert cards.memory() == max(device.id for device in jax.devices()) * 10


def test_the_peak_is_that_of_the_fullest_device(cards):
    assert cards.readings()["memory_peak_bytes"] == 20 * (jax.device_count() - 1)


def test_what_devices_tell_of_themselves_is_part_of_the_record(cards, clock):
    performance = Performance(
        tokens_per_step=50,
        flops_per_step=None,
        peak_flops=None,
        memory=lambda: None,
        readings=cards.readings,
    )
    performance.start(1, 0.0)
    assert performance.measure(3, 0.0)["device_utilization"] == 0.5


def test_the_log_line_and_the_record_say_how_busy_and_how_full_devices_are(cards, clock, tmp_path):
    performance = Performance(
        tokens_per_step=50,
        flops_per_step=200.0,
        peak_flops=cards.peak_flops(),
        memory=lambda: 3 * 2**30,
        readings=cards.readings,
    )
    printed, writer = io.StringIO(), JsonlWriter.Config().instantiate()
    outlets = Outlets([writer], failed=pytest.fail)
    outlets.open(tmp_path, after_step=0)
    report = Report(
        Progress(2, printed),
        outlets,
        performance,
        Registry().hook,
        Clock(None),
        max_step=2,
        log_every=1,
    )
    report.started(tmp_path, "test", after_step=0)
    for step in (1, 2):
        report.step(StepMetrics(step, {"loss": np.float32(1.0)}), waited=0.0)
    report.finished(2, "completed")
    outlets.close()
    assert re.search(r"mfu \d+%  busy 50%  wait 0%  mem 3 GiB", printed.getvalue())
    (record,) = map(json.loads, (tmp_path / "performance.jsonl").read_text().splitlines())
    assert record["device_utilization"] == 0.5
    assert record["memory_bytes"] == 3 * 2**30
    assert record["memory_peak_bytes"] == 20 * (jax.device_count() - 1)
