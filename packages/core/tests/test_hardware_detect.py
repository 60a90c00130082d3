"""Which backend is used, and what is said of hardware that is not."""

import pytest

from axlearn_core.hardware import CPU, HardwareError, Probe, detect
from axlearn_core.plugins import HardwareRecord
from axlearn_core.testing.registries import isolated_registry


class Here(CPU):
    platform = "gpu"

    def probe(self, environment):
        return Probe("gpu", 2, "2 x Test")


class NotHere(Here):
    def probe(self, environment):
        return None


class NoDriver(Here):
    def missing(self):
        return "the plugin is missing: pip install it"


def _record(attribute, platform="gpu"):
    return HardwareRecord(
        attribute.lower(), f"{__name__}:{attribute}", "Test hardware.", platform=platform
    )


CPU_RECORD = HardwareRecord("cpu", "axlearn_core.hardware.cpu:CPU", "The CPU.", platform="cpu")


def _detect(*records, environment=None, root=None):
    arguments = {} if root is None else {"root": root}
    with isolated_registry(CPU_RECORD, *records) as registry:
        return detect(registry, environment or {}, **arguments)


def _trace(root, vendor="0x10de"):
    (root / "dev").mkdir()
    (root / "dev/nvidia0").touch()
    device = root / "sys/bus/pci/devices/0000:00:01.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    return root


def test_an_accelerator_goes_before_the_cpu():
    assert _detect(_record("Here")).probe == Probe("gpu", 2, "2 x Test")


def test_without_an_accelerator_it_is_the_cpu():
    assert _detect(_record("NotHere")).probe.platform == "cpu"


def test_jax_platforms_chooses():
    detected = _detect(_record("Here"), environment={"JAX_PLATFORMS": "cpu"})
    assert detected.probe.platform == "cpu"


@pytest.mark.parametrize("platforms", ["cuda", "gpu,cpu"])
def test_jax_platforms_is_read_in_its_order_and_knows_cuda(platforms):
    detected = _detect(_record("Here"), environment={"JAX_PLATFORMS": platforms})
    assert detected.probe.platform == "gpu"


def test_jax_platforms_that_leaves_nothing_is_an_error():
    with pytest.raises(HardwareError, match="JAX_PLATFORMS=tpu allows no hardware"):
        _detect(_record("Here"), environment={"JAX_PLATFORMS": "tpu"})


def test_hardware_that_jax_cannot_reach_is_not_used_and_says_what_to_install():
    detected = _detect(_record("NoDriver"))
    assert detected.probe.platform == "cpu"
    assert detected.notes == ("2 x Test: not used, since the plugin is missing: pip install it",)


def test_hardware_without_its_package_gives_the_pip_command(tmp_path):
    (note,) = _detect(root=_trace(tmp_path)).notes
    assert "gpu hardware is here" in note
    assert "pip install axlearn-hardware-gpu" in note


def test_with_the_package_nothing_is_said(tmp_path):
    assert _detect(_record("NotHere"), root=_trace(tmp_path)).notes == ()


def test_device_files_of_another_vendor_are_not_taken_for_ours(tmp_path):
    assert _detect(root=_trace(tmp_path, vendor="0x8086")).notes == ()


def test_a_broken_backend_is_told_and_does_not_stop_the_others():
    broken = HardwareRecord("broken", "no_such_module:X", "Broken.", platform="gpu")
    detected = _detect(broken)
    assert detected.probe.platform == "cpu"
    assert "No module named 'no_such_module'" in detected.notes[0]
