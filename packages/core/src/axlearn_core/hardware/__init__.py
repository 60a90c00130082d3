"""The hardware contract, the CPU backend, detection, environment and mesh rules. Imports no jax."""

from axlearn_core.hardware.contract import (
    Chip,
    EnvironmentSetting,
    Hardware,
    HardwareError,
    MemoryReading,
    Probe,
    Topology,
    device_memory,
    explicit_cluster,
    slurm_cluster,
)
from axlearn_core.hardware.cpu import CPU
from axlearn_core.hardware.detect import Detected, backend_of, detect
from axlearn_core.hardware.environment import apply_environment, wanted
from axlearn_core.hardware.fit_mesh import FitMesh
from axlearn_core.hardware.fit_remat import FitRemat
from axlearn_core.hardware.mesh_rules import (
    MeshRule,
    Recipe,
    load_mesh_rule,
    machine_name,
    select_mesh_rule,
    select_recipes,
)
from axlearn_core.hardware.versions import jax_mismatch

__all__ = [
    "CPU",
    "Chip",
    "Detected",
    "EnvironmentSetting",
    "FitMesh",
    "FitRemat",
    "Hardware",
    "HardwareError",
    "MemoryReading",
    "MeshRule",
    "Probe",
    "Recipe",
    "Topology",
    "apply_environment",
    "backend_of",
    "detect",
    "device_memory",
    "explicit_cluster",
    "jax_mismatch",
    "load_mesh_rule",
    "machine_name",
    "select_mesh_rule",
    "select_recipes",
    "slurm_cluster",
    "wanted",
]
