"""The backend and every mesh rule under their contracts."""

from axlearn_core.testing.contracts import HardwareContract, MeshRuleContract, check_coverage


class TestNvidiaGPU(HardwareContract):
    name = "axlearn-hardware-gpu/nvidia"

    def device_kinds(self):
        return {
            "NVIDIA A100-SXM4-40GB": "a100-40",
            "NVIDIA A100-SXM4-80GB": "a100-80",
            "NVIDIA A100 80GB PCIe": "a100-80-pcie",
            "NVIDIA H100 80GB HBM3": "h100",
            "NVIDIA H100 PCIe": "h100-pcie",
            "NVIDIA H100 NVL": None,
            "NVIDIA H200": "h200",
            "NVIDIA H200 NVL": None,
            "NVIDIA B200": "b200",
            "NVIDIA GB200": "gb200",
            "NVIDIA B300 SXM6 AC": "b300",
            "NVIDIA L4": "l4",
            "NVIDIA L40S": "l40s",
        }


class TestMeshRules(MeshRuleContract):
    distribution = "axlearn-hardware-gpu"

    def machines(self):
        return {
            "gpu-l4-4": ("gpu-without-nvlink", {"data": 2, "fsdp": 2}),
            "gpu-h100-8": ("gpu-nodes", {"fsdp": 8}),
            "gpu-a100-80-1": ("gpu-nodes", {}),
            "gpu-h100-64": ("gpu-nodes", {"data": 8, "fsdp": 8}),
            "gpu-gb200-64": ("gpu-nvl72", {"fsdp": 64}),
        }


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-hardware-gpu", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
