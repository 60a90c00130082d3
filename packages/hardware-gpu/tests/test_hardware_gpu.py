"""NVIDIA GPUs: probe, environment, chips and mesh rules."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from axlearn_core.hardware import HardwareError
from axlearn_hardware_gpu import CHIPS, SETTINGS, NvidiaGPU
from axlearn_hardware_gpu.targets import target_config


@pytest.fixture
def host(tmp_path):
    """A host with two GPUs."""
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        gpu = tmp_path / "proc/driver/nvidia/gpus" / bus
        gpu.mkdir(parents=True)
        (gpu / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 1\n")
    return tmp_path


def test_gpus_are_counted_and_named(host):
    assert NvidiaGPU(host).probe({}).description == "2 x NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("visible", "count"), [("1", 1), ("0,1", 2), ("GPU-8a,MIG-5", 2), ("0,-1,1", 1)]
)
def test_hidden_gpus_are_not_counted(host, visible, count):
    assert NvidiaGPU(host).probe({"CUDA_VISIBLE_DEVICES": visible}).count == count


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_host_that_hides_all_has_none(host, visible):
    assert NvidiaGPU(host).probe({"CUDA_VISIBLE_DEVICES": visible}) is None


def test_a_host_without_has_none(tmp_path):
    assert NvidiaGPU(tmp_path).probe({}) is None


@pytest.fixture
def plugins(monkeypatch):
    """Pretends that some of jax's plugins are installed."""

    def install(*names):
        found = {name: object() for name in names}
        monkeypatch.setattr("axlearn_hardware_gpu.backend.find_spec", found.get)

    return install


def test_the_plugin_that_is_here_is_held_against_jax(plugins, monkeypatch):
    asked = []
    monkeypatch.setattr("axlearn_hardware_gpu.backend.jax_mismatch", asked.append)
    for installed in ((), ("jax_cuda12_plugin",), ("jax_cuda13_plugin",)):
        plugins(*installed)
        NvidiaGPU().missing()
    assert asked == ["cuda12", "cuda12", "cuda13"]


def test_two_plugins_are_one_too_many(plugins):
    plugins("jax_cuda12_plugin", "jax_cuda13_plugin")
    assert "pip uninstall jax-cuda12-plugin" in NvidiaGPU().missing()


SLURM = {"SLURM_STEP_NUM_TASKS": "16"}


@pytest.mark.parametrize(
    ("environment", "visible", "expected"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x16)"}, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_LOCALID": "3"}, 8, [3]),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x4)", "SLURM_LOCALID": "3"}, 8, [6, 7]),
        ({"SLURM_STEP_TASKS_PER_NODE": "8,4(x2)", "SLURM_NODEID": "2"}, 8, [0, 1]),
        # Bound to tasks, by a variable or by what each of them sees.
        (
            {
                "SLURM_STEP_TASKS_PER_NODE": "4(x4)",
                "SLURM_LOCALID": "3",
                "SLURM_GPUS_PER_TASK": "4",
            },
            4,
            [0, 1, 2, 3],
        ),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_LOCALID": "3"}, 1, [0]),
    ],
    ids=str,
)
def test_the_tasks_of_a_node_share_its_gpus(environment, visible, expected):
    environment |= SLURM | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(visible)))}
    assert NvidiaGPU().distributed_arguments(environment) == {"local_device_ids": expected}


def test_all_gpus_of_the_host_are_shared_if_none_are_hidden(host):
    environment = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_LOCALID": "1"}
    assert NvidiaGPU(host).distributed_arguments(environment) == {"local_device_ids": [1]}


def test_tasks_that_cannot_share_the_gpus_are_told():
    environment = SLURM | {
        "SLURM_STEP_TASKS_PER_NODE": "3",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
    }
    with pytest.raises(HardwareError, match="3 tasks of this node cannot share its 8 GPUs evenly"):
        NvidiaGPU().distributed_arguments(environment)


def test_xla_knows_every_flag():
    flags = " ".join(setting.value for setting in SETTINGS if setting.name == "XLA_FLAGS")
    run = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices('cpu')"],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_a_chip_has_a_source_and_plausible_numbers(chip):
    assert chip.source.startswith("https://")
    assert 20e12 < chip.peak_flops["float32"] < chip.peak_flops["bfloat16"] < 5e15
    # Half the bits, twice the rate, to the rounding of the data sheets: B200's TF32 is printed as
    # 2.2 PFLOPS, and as 18 for eight, which is 2.25 each.
    fp8 = chip.peak_flops.get("float8_e4m3fn", 2 * chip.peak_flops["bfloat16"])
    assert fp8 == pytest.approx(2 * chip.peak_flops["bfloat16"], rel=0.02)
    assert chip.peak_flops["bfloat16"] == pytest.approx(2 * chip.peak_flops["float32"], rel=0.025)
    assert 20 * 2**30 < chip.memory_bytes < 300 * 2**30
    assert 0.2e12 < chip.memory_bandwidth < 10e12
    assert (chip.interconnect == "") == (chip.interconnect_bandwidth is None)


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


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_every_chip_is_described_to_the_compiler(chip):
    described = target_config(chip, "12.9.0")
    (name,) = re.findall(r'^device_description_str: "(.*)"', described, re.MULTILINE)
    assert NvidiaGPU().chip(name) is chip
    assert f"device_memory_size: {chip.memory_bytes}\n" in described


def test_gpus_that_fill_no_domain_are_named_with_near_counts(monkeypatch):
    h100 = next(chip for chip in CHIPS if chip.name == "h100")
    monkeypatch.setattr("axlearn_hardware_gpu.targets.find_spec", lambda name: name)
    with pytest.raises(HardwareError, match="12 h100 do not fill domains of 8; near counts: 8, 16"):
        NvidiaGPU().compile_only_devices(h100, 12)


def test_compiling_without_the_plugin_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr("axlearn_hardware_gpu.targets.find_spec", lambda name: None)
    with pytest.raises(HardwareError, match=r"pip install 'jax\[cuda12\]'"):
        NvidiaGPU().compile_only_devices(CHIPS[0], 8)
