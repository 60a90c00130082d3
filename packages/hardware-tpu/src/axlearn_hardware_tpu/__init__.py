"""TPU chips, topologies, flags and mesh rules."""

from axlearn_hardware_tpu.backend import TPU
from axlearn_hardware_tpu.chips import CHIPS
from axlearn_hardware_tpu.settings import SETTINGS
from axlearn_hardware_tpu.topologies import TOPOLOGIES

__all__ = ["CHIPS", "SETTINGS", "TOPOLOGIES", "TPU"]
