"""TPUs: probe, environment, chips, topologies and mesh rules."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from axlearn_core.hardware import HardwareError
from axlearn_hardware_tpu import CHIPS, SETTINGS, TOPOLOGIES, TPU


@pytest.fixture
def host(tmp_path):
    """A host with four v5e chips and one of Google's network cards."""
    devices = ["0x0063"] * 4 + ["0x0042"]
    for number, device in enumerate(devices):
        folder = tmp_path / f"sys/bus/pci/devices/0000:00:0{number}.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text("0x1ae0\n")
        (folder / "device").write_text(f"{device}\n")
    (tmp_path / "dev/vfio").mkdir(parents=True)
    for name in ("0", "1", "2", "3", "vfio"):
        (tmp_path / "dev/vfio" / name).touch()
    return tmp_path


def test_tpus_are_counted_and_named(host):
    assert TPU(host).probe({}).description == "4 x TPU v5e"


def test_hidden_tpus_are_not_counted(host):
    assert TPU(host).probe({"TPU_VISIBLE_CHIPS": "0,1"}).count == 2


def test_tpus_that_may_not_be_opened_are_not_there(host):
    for file in (host / "dev/vfio").iterdir():
        file.unlink()
    assert TPU(host).probe({}) is None


def test_a_host_without_has_none(tmp_path):
    assert TPU(tmp_path).probe({}) is None


def test_libtpu_is_held_against_jax(monkeypatch):
    monkeypatch.setattr("axlearn_hardware_tpu.backend.jax_mismatch", lambda extra: f"no {extra}")
    assert TPU().missing() == "no tpu"


def libtpu_sdk(monkeypatch, data):
    """Puts a libtpu in place that tells `data`."""

    def get_metric(name):
        if name not in data:
            raise RuntimeError(name)
        return SimpleNamespace(data=lambda: data[name])

    sdk = ModuleType("libtpu.sdk")
    sdk.tpumonitoring = SimpleNamespace(get_metric=get_metric)
    monkeypatch.setitem(sys.modules, "libtpu", ModuleType("libtpu"))
    monkeypatch.setitem(sys.modules, "libtpu.sdk", sdk)


def test_readings_are_of_all_tpus_together(monkeypatch):
    libtpu_sdk(monkeypatch, {"duty_cycle_pct": ["100.00", "50.00"], "tensorcore_util": ["20.00"]})
    assert TPU().readings() == {"utilization": 0.75, "tensor_core_utilization": 0.2}


def test_what_libtpu_does_not_tell_is_left_out(monkeypatch):
    libtpu_sdk(monkeypatch, {"duty_cycle_pct": []})
    assert TPU().readings() == {}


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_a_chip_has_a_source_and_plausible_numbers(chip):
    assert chip.source.startswith("https://docs.cloud.google.com/tpu/docs/")
    assert 100e12 < chip.peak_flops["bfloat16"] < 2e15
    assert chip.peak_flops["float32"] == chip.peak_flops["bfloat16"]
    assert 16 * 2**30 <= chip.memory_bytes <= 192 * 2**30
    assert 0.5e12 < chip.memory_bandwidth < 8e12


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TPU_WORKER_HOSTNAMES": "host0"}, None),
        ({"TPU_WORKER_HOSTNAMES": "host0,host1"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "host0", "MEGASCALE_NUM_SLICES": "2"}, {}),
    ],
)
def test_slices_of_several_hosts_are_left_to_jax(environment, expected):
    assert TPU().distributed_arguments(environment) == expected


@pytest.mark.skipif(find_spec("libtpu") is None, reason="needs libtpu, but no TPU")
def test_libtpu_knows_every_flag_and_topology():
    program = (
        "import json\n"
        "from axlearn_hardware_tpu import TOPOLOGIES, TPU\n"
        "found, tpu = {}, TPU()\n"
        "for topology in TOPOLOGIES:\n"
        "    if topology.devices <= 1024:\n"
        "        chip = next(chip for chip in tpu.chips if chip.name == topology.chip)\n"
        "        devices = tpu.compile_only_devices(chip, topology.devices)\n"
        "        found[topology.name] = [len(devices), devices[0].device_kind]\n"
        "print(json.dumps(found))\n"
    )
    settings = {setting.name: setting.value for setting in TPU().compile_settings(1)}
    environment = os.environ | settings
    environment |= {
        "LIBTPU_INIT_ARGS": " ".join(setting.value for setting in SETTINGS),
        "JAX_PLATFORMS": "cpu",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # other tests may compile at the same time
    }
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    for topology in TOPOLOGIES:
        if topology.name in found:
            count, kind = found[topology.name]
            assert (count, TPU().chip(kind).name) == (topology.devices, topology.chip)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_a_domain_is_the_largest_slice(chip):
    assert chip.domain == max(t.devices for t in TOPOLOGIES if t.chip == chip.name)


def test_full_slices_are_compiled_for_together_and_others_named(monkeypatch):
    v5e = next(chip for chip in CHIPS if chip.name == "v5e")
    assert TPU().domain(v5e, 512) == 256
    monkeypatch.setattr("axlearn_hardware_tpu.topologies.find_spec", lambda name: name)
    with pytest.raises(HardwareError, match="no slice of 384 v5e; near counts: 128, 256, 512"):
        TPU().compile_only_devices(v5e, 384)


def test_compiling_without_libtpu_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr("axlearn_hardware_tpu.topologies.find_spec", lambda name: None)
    with pytest.raises(HardwareError, match="pip install libtpu"):
        TPU().compile_only_devices(CHIPS[0], 8)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_the_readme_has_the_chips_numbers(chip):
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    (row,) = [line for line in readme.splitlines() if line.startswith(f"| {chip.name} |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    fp8 = chip.peak_flops.get("float8_e4m3fn")
    assert cells[2:6] == [
        f"{chip.peak_flops['bfloat16'] / 1e12:g}",
        "" if fp8 is None else f"{fp8 / 1e12:g}",
        f"{chip.memory_bytes // 2**30}",
        f"{chip.memory_bandwidth / 1e9:g}",
    ]
    assert all(chip.matches(kind.strip("` ")) for kind in cells[1].split(","))
