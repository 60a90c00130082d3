"""What NVIDIA's data centre GPUs can do.

The numbers are those of NVIDIA's data sheets, as the pages named in `source` print them: the sheets
themselves were not at hand. Rates are dense. Sheets mostly print them with 2:4 sparsity, which
training does not use: those are halved here, as in `1513e12 / 2`. They round each number by itself,
so half the bits is not exactly twice the rate. Memory is in GiB, though the sheets write GB: an
"80 GB" GPU has nearly 80 GiB.

Domains are nodes of 8 on an NVSwitch, pairs on a bridge, or racks of 72. Between them runs the
network of NVIDIA's own systems, with one adapter a GPU: 200 Gb/s with A100, 400 up to GB200, 800
with B300
(https://rillor.com/insights/connectx-7-vs-connectx-8-and-nvlink5 and
https://alpha-one-index.github.io/ai-infra-index/specs/networking-interconnects.html). Clouds vary.
"""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import Chip
from axlearn_hardware_gpu.settings import MEMORY_FRACTION

_GIB = 2**30
_A100 = (
    "https://glennklockwood.com/garden/processors/A100 (citing NVIDIA's data sheet 1758950-r4) and "
    "https://www.thundercompute.com/blog/nvidia-a100-specs-full-guide; links from "
    "https://www.nvidia.com/de-de/data-center/nvlink/"
)
_H100 = "https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html"
_H100_SXM = f"{_H100}; dense rates from https://glennklockwood.com/garden/processors/h100"
_H200 = (
    "https://massivegrid.com/blog/nvidia-h100-vs-h200-key-differences-in-performance-memory-ai-power"
    " (rates are those of an H100 SXM); memory size and links from NVIDIA's entry to MLPerf "
    "Inference 4.1, https://raw.githubusercontent.com/mlcommons/inference_results_v4.1/main/closed/"
    "NVIDIA/systems/H200-SXM-141GBx8_TRT_MaxQ.json"
)
_BLACKWELL = "https://zdszero.github.io/Computer/Artificial_Intelligence/Hardware.html"
_BLACKWELL_ULTRA = (
    "https://verda.com/blog/gb300-nvl72-architecture; memory unconfirmed: other pages, such as "
    "https://glennklockwood.com/garden/processors/B300, give 288 GB and 8 TB/s"
)
_L4 = (
    "https://grokipedia.com/page/NVIDIA_L4_vs_L40S and "
    "https://store.sourcecode.com/en-us/bg-bucket-compare/125/9820; bfloat16 taken as float16"
)
_L40S = (
    "https://www.mullet.se/product.html?product_id=355414; no NVLink: "
    "https://www.itcreations.com/nvidia-gpu/nvidia-l40s-gpu-accelerator"
)


def _peaks(*, tf32: float, bf16: float, fp8: float | None = None) -> dict[str, float]:
    # By default jax multiplies float32 matrices as TF32 on GPUs that can.
    peaks = {"float32": tf32, "bfloat16": bf16, "float16": bf16}
    if fp8 is not None:
        peaks |= {"float8_e4m3fn": fp8, "float8_e5m2": fp8}
    return peaks


_AMPERE = _peaks(tf32=156e12, bf16=312e12)
_HOPPER_SXM = _peaks(tf32=494.7e12, bf16=989.4e12, fp8=1978.9e12)
_BLACKWELL_HGX = _peaks(tf32=2200e12 / 2, bf16=4500e12 / 2, fp8=9000e12 / 2)

CHIPS: Final[tuple[Chip, ...]] = (
    Chip(
        name="a100-40",
        device_kinds=("NVIDIA A100-(SXM4|PCIE)-40GB",),
        peak_flops=_AMPERE,
        memory_bytes=40 * _GIB,
        program_memory=int(40 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=1555e9,
        interconnect="NVLink 3 (PCIe card: bridge for 2 GPUs)",
        interconnect_bandwidth=600e9,
        source=_A100,
        domain=8,
        domain_bandwidth=200e9 / 8,
    ),
    Chip(
        name="a100-80",
        device_kinds=("NVIDIA A100-SXM4-80GB",),
        peak_flops=_AMPERE,
        memory_bytes=80 * _GIB,
        program_memory=int(80 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=2039e9,
        interconnect="NVLink 3",
        interconnect_bandwidth=600e9,
        source=_A100,
        domain=8,
        domain_bandwidth=200e9 / 8,
    ),
    Chip(
        name="a100-80-pcie",
        device_kinds=("NVIDIA A100 80GB PCIe",),
        peak_flops=_AMPERE,
        memory_bytes=80 * _GIB,
        program_memory=int(80 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=1935e9,
        interconnect="NVLink 3 bridge for 2 GPUs",
        interconnect_bandwidth=600e9,
        source=_A100,
        domain=2,
        domain_bandwidth=200e9 / 8,
    ),
    Chip(
        name="h100",
        device_kinds=("NVIDIA H100 80GB HBM3",),
        peak_flops=_HOPPER_SXM,
        memory_bytes=80 * _GIB,
        program_memory=int(80 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=3350e9,
        interconnect="NVLink 4",
        interconnect_bandwidth=900e9,
        source=_H100_SXM,
        domain=8,
        domain_bandwidth=400e9 / 8,
    ),
    Chip(
        name="h100-pcie",
        device_kinds=("NVIDIA H100 PCIe",),
        peak_flops=_peaks(tf32=756e12 / 2, bf16=1513e12 / 2, fp8=3026e12 / 2),
        memory_bytes=80 * _GIB,
        program_memory=int(80 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=2000e9,
        interconnect="NVLink 4 bridge",
        interconnect_bandwidth=600e9,
        source=_H100,
        domain=2,
        domain_bandwidth=400e9 / 8,
    ),
    Chip(
        name="h200",
        device_kinds=("NVIDIA H200",),
        peak_flops=_HOPPER_SXM,
        memory_bytes=141 * _GIB,
        program_memory=int(141 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=4800e9,
        interconnect="NVLink 4",
        interconnect_bandwidth=900e9,
        source=_H200,
        domain=8,
        domain_bandwidth=400e9 / 8,
    ),
    Chip(
        name="b200",
        device_kinds=("NVIDIA B200",),
        peak_flops=_BLACKWELL_HGX,
        memory_bytes=180 * _GIB,
        program_memory=int(180 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=7700e9,
        interconnect="NVLink 5",
        interconnect_bandwidth=1800e9,
        source=_BLACKWELL,
        domain=8,
        domain_bandwidth=400e9 / 8,
    ),
    Chip(
        name="gb200",
        device_kinds=("NVIDIA GB200",),
        peak_flops=_peaks(tf32=2500e12 / 2, bf16=5000e12 / 2, fp8=10000e12 / 2),
        memory_bytes=186 * _GIB,
        program_memory=int(186 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=8000e9,
        interconnect="NVLink 5",
        interconnect_bandwidth=1800e9,
        source=_BLACKWELL,
        domain=72,
        domain_bandwidth=400e9 / 8,
    ),
    Chip(
        name="b300",
        device_kinds=("NVIDIA B300( .*)?",),
        peak_flops=_BLACKWELL_HGX,
        memory_bytes=270 * _GIB,
        program_memory=int(270 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=7700e9,
        interconnect="NVLink 5",
        interconnect_bandwidth=1800e9,
        source=_BLACKWELL_ULTRA,
        domain=8,
        domain_bandwidth=800e9 / 8,
    ),
    Chip(
        name="l4",
        device_kinds=("NVIDIA L4",),
        peak_flops=_peaks(tf32=120e12 / 2, bf16=242e12 / 2, fp8=485e12 / 2),
        memory_bytes=24 * _GIB,
        program_memory=int(24 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=300e9,
        interconnect="",
        interconnect_bandwidth=None,
        source=_L4,
        domain=1,
    ),
    Chip(
        name="l40s",
        device_kinds=("NVIDIA L40S",),
        peak_flops=_peaks(tf32=183e12, bf16=362.05e12, fp8=733e12),
        memory_bytes=48 * _GIB,
        program_memory=int(48 * _GIB * MEMORY_FRACTION),
        memory_bandwidth=864e9,
        interconnect="",
        interconnect_bandwidth=None,
        source=_L40S,
        domain=1,
    ),
)
