"""What Cloud TPUs can do, from Google's documentation, and how PCI tells them apart.

Numbers are of one jax device. That is a chip, except for TPU7x: its two chiplets are two devices,
and its numbers here are half of the chip's. What a program gets of the memory is what libtpu calls
available when a program needs more.
"""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import Chip

_GIB = 2**30
_DOCS = "https://docs.cloud.google.com/tpu/docs"


def _peaks(*, bf16: float, int8: float | None = None, fp8: float | None = None) -> dict[str, float]:
    # By default jax multiplies float32 matrices on TPUs in one pass of bfloat16.
    peaks = {"float32": bf16, "bfloat16": bf16}
    if int8 is not None:
        peaks["int8"] = int8
    if fp8 is not None:
        peaks |= {"float8_e4m3fn": fp8, "float8_e5m2": fp8}
    return peaks


CHIPS: Final[tuple[Chip, ...]] = (
    Chip(
        name="v4",
        device_kinds=("TPU v4",),
        peak_flops=_peaks(bf16=275e12, int8=275e12),
        memory_bytes=32 * _GIB,
        memory_bandwidth=1200e9,
        interconnect="ICI, 3D mesh or torus",
        interconnect_bandwidth=None,  # not given there
        source=f"{_DOCS}/v4",
        program_memory=int(30.75 * _GIB),
        torus=3,
        torus_wraps=4,
        domain=4096,  # a pod
    ),
    Chip(
        name="v5e",
        device_kinds=("TPU v5 lite", "TPU v5e"),
        peak_flops=_peaks(bf16=197e12, int8=393e12),
        memory_bytes=16 * _GIB,
        memory_bandwidth=819e9,  # a later revision of the page says 800 GiBps
        interconnect="ICI, 2D torus",
        interconnect_bandwidth=400e9,
        source=f"{_DOCS}/v5e",
        program_memory=int(15.75 * _GIB),
        torus=2,
        torus_wraps=16,
        domain=256,
        domain_bandwidth=6.4e12 / 8 / 256,  # of a pod
    ),
    Chip(
        name="v5p",
        device_kinds=("TPU v5", "TPU v5p"),
        peak_flops=_peaks(bf16=459e12, fp8=459e12),
        memory_bytes=95 * _GIB,
        memory_bandwidth=2765e9,
        interconnect="ICI, 3D torus",
        interconnect_bandwidth=1200e9,
        source=f"{_DOCS}/v5p",
        program_memory=int(95.74 * _GIB),
        torus=3,
        torus_wraps=4,
        domain=6144,  # the largest job of a pod
        domain_bandwidth=50e9 / 8,
    ),
    Chip(
        name="v6e",
        device_kinds=("TPU v6 lite", "TPU v6e"),
        peak_flops=_peaks(bf16=918e12, int8=1836e12, fp8=918e12),
        memory_bytes=32 * _GIB,
        memory_bandwidth=1638e9,
        interconnect="ICI, 2D torus",
        interconnect_bandwidth=800e9,
        source=f"{_DOCS}/v6e, and {_DOCS}/tpu7x for float8",
        program_memory=int(31.25 * _GIB),
        torus=2,
        torus_wraps=16,
        domain=256,
        domain_bandwidth=25.6e12 / 8 / 256,  # of a pod
    ),
    Chip(
        name="7x",
        device_kinds=("TPU7x",),
        peak_flops=_peaks(bf16=2307e12 / 2, fp8=4614e12 / 2),
        memory_bytes=192 * _GIB // 2,
        memory_bandwidth=7380e9 / 2,
        interconnect="ICI, 3D torus",
        interconnect_bandwidth=1200e9 / 2,
        source=f"{_DOCS}/tpu7x",
        program_memory=int(94.75 * _GIB),
        torus=3,
        torus_wraps=4,
        domain=2 * 9216,  # a pod
        domain_bandwidth=100e9 / 8 / 2,
    ),
)

PCI_VENDOR: Final = "0x1ae0"  # Google, which makes network cards as well
PCI_DEVICES: Final = {
    "0x005e": "v4",
    "0x0062": "v5p",
    "0x0063": "v5e",
    "0x006f": "v6e",
    "0x0076": "7x",
}
