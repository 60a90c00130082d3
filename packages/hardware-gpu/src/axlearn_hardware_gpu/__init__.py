"""NVIDIA GPU chips, flags and mesh rules."""

from axlearn_hardware_gpu.backend import NvidiaGPU
from axlearn_hardware_gpu.chips import CHIPS
from axlearn_hardware_gpu.settings import SETTINGS

__all__ = ["CHIPS", "SETTINGS", "NvidiaGPU"]
