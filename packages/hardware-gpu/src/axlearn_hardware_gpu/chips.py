"""What NVIDIA's data centre GPUs can do, from NVIDIA's own data sheets.

Data sheets mostly print rates with 2:4 sparsity, which training does not use: those are halved
here, as in `1979e12 / 2`. Memory is in GiB, though the sheets write GB: an "80 GB" H100 has 80 GiB.
"""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import Chip

_GIB = 2**30
_A100 = (
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
)
_H100 = "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet"
_H200 = "https://www.nvidia.com/en-us/data-center/h200/"
_HGX = "https://www.nvidia.com/en-us/data-center/hgx/"
_GB200 = "https://www.nvidia.com/en-us/data-center/gb200-nvl72/"


def _peaks(*, tf32: float, bf16: float, fp8: float | None = None) -> dict[str, float]:
    # By default jax multiplies float32 matrices as TF32 on GPUs that can.
    peaks = {"float32": tf32, "bfloat16": bf16, "float16": bf16}
    if fp8 is not None:
        peaks |= {"float8_e4m3fn": fp8, "float8_e5m2": fp8}
    return peaks


_AMPERE = _peaks(tf32=156e12, bf16=312e12)
_HOPPER_SXM = _peaks(tf32=989e12 / 2, bf16=1979e12 / 2, fp8=3958e12 / 2)
_HOPPER_NVL = _peaks(tf32=835e12 / 2, bf16=1671e12 / 2, fp8=3341e12 / 2)
_BLACKWELL_HGX = _peaks(tf32=2250e12 / 2, bf16=4500e12 / 2, fp8=9000e12 / 2)

CHIPS: Final[tuple[Chip, ...]] = (
    Chip(
        name="a100-40",
        device_kinds=("NVIDIA A100-(SXM4|PCIE)-40GB",),
        peak_flops=_AMPERE,
        memory_bytes=40 * _GIB,
        memory_bandwidth=1555e9,
        interconnect="NVLink 3",
        interconnect_bandwidth=600e9,
        source=_A100,
    ),
    Chip(
        name="a100-80",
        device_kinds=("NVIDIA A100-SXM4-80GB",),
        peak_flops=_AMPERE,
        memory_bytes=80 * _GIB,
        memory_bandwidth=2039e9,
        interconnect="NVLink 3",
        interconnect_bandwidth=600e9,
        source=_A100,
    ),
    Chip(
        name="a100-80-pcie",
        device_kinds=("NVIDIA A100 80GB PCIe",),
        peak_flops=_AMPERE,
        memory_bytes=80 * _GIB,
        memory_bandwidth=1935e9,
        interconnect="NVLink 3 bridge for 2 GPUs",
        interconnect_bandwidth=600e9,
        source=_A100,
    ),
    Chip(
        name="h100",
        device_kinds=("NVIDIA H100 80GB HBM3",),
        peak_flops=_HOPPER_SXM,
        memory_bytes=80 * _GIB,
        memory_bandwidth=3350e9,
        interconnect="NVLink 4",
        interconnect_bandwidth=900e9,
        source=_H100,
    ),
    Chip(
        name="h100-pcie",
        device_kinds=("NVIDIA H100 PCIe",),
        peak_flops=_peaks(tf32=756e12 / 2, bf16=1513e12 / 2, fp8=3026e12 / 2),
        memory_bytes=80 * _GIB,
        memory_bandwidth=2000e9,
        interconnect="NVLink 4 bridge for 2 GPUs",
        interconnect_bandwidth=600e9,
        source=_H100,
    ),
    Chip(
        name="h100-nvl",
        device_kinds=("NVIDIA H100 NVL",),
        peak_flops=_HOPPER_NVL,
        memory_bytes=94 * _GIB,
        memory_bandwidth=3900e9,
        interconnect="NVLink 4 bridge for 2 GPUs",
        interconnect_bandwidth=600e9,
        source=_H100,
    ),
    Chip(
        name="h200",
        device_kinds=("NVIDIA H200",),
        peak_flops=_HOPPER_SXM,
        memory_bytes=141 * _GIB,
        memory_bandwidth=4800e9,
        interconnect="NVLink 4",
        interconnect_bandwidth=900e9,
        source=_H200,
    ),
    Chip(
        name="h200-nvl",
        device_kinds=("NVIDIA H200 NVL",),
        peak_flops=_HOPPER_NVL,
        memory_bytes=141 * _GIB,
        memory_bandwidth=4800e9,
        interconnect="NVLink 4 bridge for 2 or 4 GPUs",
        interconnect_bandwidth=900e9,
        source=_H200,
    ),
    Chip(
        name="b200",
        device_kinds=("NVIDIA B200",),
        peak_flops=_BLACKWELL_HGX,
        memory_bytes=180 * _GIB,
        memory_bandwidth=7700e9,
        interconnect="NVLink 5",
        interconnect_bandwidth=1800e9,
        source=_HGX,
    ),
    Chip(
        name="gb200",
        device_kinds=("NVIDIA GB200",),
        peak_flops=_peaks(tf32=2500e12 / 2, bf16=5000e12 / 2, fp8=10000e12 / 2),
        memory_bytes=186 * _GIB,
        memory_bandwidth=8000e9,
        interconnect="NVLink 5",
        interconnect_bandwidth=1800e9,
        source=_GB200,
    ),
    Chip(
        name="b300",
        device_kinds=("NVIDIA B300( .*)?",),
        peak_flops=_BLACKWELL_HGX,
        memory_bytes=288 * _GIB,
        memory_bandwidth=8000e9,
        interconnect="NVLink 5",
        interconnect_bandwidth=1800e9,
        source=_HGX,
    ),
    Chip(
        name="l4",
        device_kinds=("NVIDIA L4",),
        peak_flops=_peaks(tf32=120e12 / 2, bf16=242e12 / 2, fp8=485e12 / 2),
        memory_bytes=24 * _GIB,
        memory_bandwidth=300e9,
        interconnect="",
        interconnect_bandwidth=None,
        source="https://www.nvidia.com/en-us/data-center/l4/",
    ),
    Chip(
        name="l40s",
        device_kinds=("NVIDIA L40S",),
        peak_flops=_peaks(tf32=366e12 / 2, bf16=733e12 / 2, fp8=1466e12 / 2),
        memory_bytes=48 * _GIB,
        memory_bandwidth=864e9,
        interconnect="",
        interconnect_bandwidth=None,
        source="https://www.nvidia.com/en-us/data-center/l40s/",
    ),
)
