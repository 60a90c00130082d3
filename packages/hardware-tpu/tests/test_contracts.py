"""The backend and every mesh rule under their contracts."""

from axlearn_core.testing.contracts import HardwareContract, MeshRuleContract, check_coverage


class TestTPU(HardwareContract):
    name = "axlearn-hardware-tpu/tpu"

    def device_kinds(self):
        return {
            "TPU v4": "v4",
            "TPU v5 lite": "v5e",
            "TPU v5": "v5p",
            "TPU v6 lite": "v6e",
            "TPU7x": "7x",
            "TPU v5 lite plus": None,
        }


class TestMeshRules(MeshRuleContract):
    distribution = "axlearn-hardware-tpu"

    def machines(self):
        return {
            "tpu-v5p-64": ("tpu-3d-slice", {"fsdp": 64}),
            "tpu-7x-8": ("tpu-3d-slice", {"fsdp": 8}),
            "tpu-v5e-1": ("tpu-2d-slices", {}),
            "tpu-v6e-256": ("tpu-2d-slices", {"fsdp": 256}),
            "tpu-v6e-512": ("tpu-2d-slices", {"data": 2, "fsdp": 256}),
        }


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-hardware-tpu", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
