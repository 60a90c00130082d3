"""What XLA needs to know of a GPU to compile for it without having one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from axlearn_core.hardware import Chip, EnvironmentSetting, HardwareError

if TYPE_CHECKING:
    import jax

EXTRA_OF_PLUGIN: Final = {"jax_cuda12_plugin": "cuda12", "jax_cuda13_plugin": "cuda13"}
"""Jax's plugins, and the extra of jax that brings each."""

COMPILE_SETTINGS: Final[tuple[EnvironmentSetting, ...]] = (
    EnvironmentSetting(
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1", "jax must not look for NVIDIA's driver"
    ),
    EnvironmentSetting(
        "XLA_FLAGS", "--xla_gpu_autotune_level=0", "nothing is here to time kernels on: defaults"
    ),
)


@dataclass(frozen=True)
class Architecture:
    """What GPUs of one compute capability have in each multiprocessor.

    From the table of technical specifications in NVIDIA's CUDA C++ Programming Guide.
    """

    capability: str  # the fields of a `cuda_compute_capability`
    float_units: int  # float32
    threads: int  # at most
    shared_memory: int  # bytes
    shared_memory_of_block: int  # bytes, when asked for


_ACCELERATED = "feature_extension: ACCELERATED_FEATURES"
_AMPERE = Architecture("major: 8 minor: 0", 64, 2048, 164 << 10, 163 << 10)
_ADA = Architecture("major: 8 minor: 9", 128, 1536, 100 << 10, 99 << 10)
_HOPPER = Architecture(f"major: 9 minor: 0 {_ACCELERATED}", 128, 2048, 228 << 10, 227 << 10)
_BLACKWELL = Architecture(f"major: 10 minor: 0 {_ACCELERATED}", 128, 2048, 228 << 10, 227 << 10)
_ULTRA = Architecture(f"major: 10 minor: 3 {_ACCELERATED}", 128, 2048, 228 << 10, 227 << 10)


@dataclass(frozen=True)
class Model:
    """One GPU; from NVIDIA's architecture white papers."""

    architecture: Architecture
    multiprocessors: int
    clock: float  # GHz, at most
    cache: int  # level 2, MiB


MODELS: Final[dict[str, Model]] = {
    "a100-40": Model(_AMPERE, 108, 1.41, 40),
    "a100-80": Model(_AMPERE, 108, 1.41, 40),
    "a100-80-pcie": Model(_AMPERE, 108, 1.41, 40),
    "h100": Model(_HOPPER, 132, 1.98, 50),
    "h100-pcie": Model(_HOPPER, 114, 1.755, 50),
    "h200": Model(_HOPPER, 132, 1.98, 50),
    "b200": Model(_BLACKWELL, 148, 1.965, 126),
    "gb200": Model(_BLACKWELL, 152, 2.062, 126),
    "b300": Model(_ULTRA, 148, 1.92, 126),
    "l4": Model(_ADA, 58, 2.04, 48),
    "l40s": Model(_ADA, 142, 2.52, 96),
}

# One device kind, of chips that have several.
_DEVICE_KINDS: Final = {"a100-40": "NVIDIA A100-SXM4-40GB", "b300": "NVIDIA B300 SXM6 AC"}

# Limits of every GPU here, and versions of the libraries that jax's plugin brings.
_DESCRIPTION: Final = """\
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared_memory}
  shared_memory_per_block_optin: {shared_memory_of_block}
  threads_per_core_limit: {threads}
  core_count: {multiprocessors}
  fpus_per_core: {float_units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {memory_bandwidth}
  l2_cache_size: {cache}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  cuda_compute_capability {{ {capability} }}
  device_vendor: "NVIDIA Corporation"
  device_address_bits: 64
  ecc_enabled: true
  name: "{name}"
  driver_version: "{cuda}"
  runtime_version: "{cuda}"
  compile_time_toolkit_version: "{cuda}"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""


def target_config(chip: Chip, cuda: str) -> str:
    """Returns a GPU as XLA's `GpuTargetConfigProto` in text form.

    Args:
        chip: of the table.
        cuda: version of CUDA, "12.9.0".
    """
    model = MODELS[chip.name]
    architecture = model.architecture
    assert chip.memory_bytes and chip.memory_bandwidth
    return _DESCRIPTION.format(
        shared_memory=architecture.shared_memory,
        shared_memory_of_block=architecture.shared_memory_of_block,
        threads=architecture.threads,
        multiprocessors=model.multiprocessors,
        float_units=architecture.float_units,
        memory_bandwidth=int(chip.memory_bandwidth),
        cache=model.cache << 20,
        clock=model.clock,
        memory=chip.memory_bytes,
        capability=architecture.capability,
        name=_DEVICE_KINDS.get(chip.name, chip.device_kinds[0]),
        cuda=cuda,
    )


def compile_only_devices(chip: Chip, count: int, domain: int) -> Sequence[jax.Device]:
    """Returns GPUs in domains of one host each; of a rack, in hosts of 4.

    Raises:
        HardwareError: without jax's CUDA plugin, or for a count that fills no domains.
    """
    plugin = next((plugin for plugin in EXTRA_OF_PLUGIN if find_spec(plugin)), None)
    if plugin is None:
        raise HardwareError(
            "jax's CUDA plugin, which compiles, is not here: pip install 'jax[cuda12]'"
        )
    most = chip.domain or 1
    if domain < min(count, most):
        near = (count // most * most, (count // most + 1) * most)
        raise HardwareError(
            f"{count} {chip.name} do not fill domains of {most}; near counts: "
            + ", ".join(map(str, near))
        )
    import jax
    from jax.experimental import topologies

    jax.devices()  # registers the plugin
    host = 4 if most > 8 and domain % 4 == 0 else domain
    described = topologies.get_topology_desc(
        "",
        platform="cuda",
        target_config=target_config(chip, "13.0.0" if "13" in plugin else "12.9.0"),
        topology=f"{count // domain}x{domain // host}x{host}",
    )
    return sorted(described.devices, key=lambda device: device.id)
