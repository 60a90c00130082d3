"""The environment to run with. Each setting has a published recommendation, named in its comment.

Left out on purpose: NCCL tunes itself, and what helps it depends on the cluster's network; combine
thresholds of collectives depend on the model. Set such things in the shell: they are kept.
"""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import EnvironmentSetting

# docs.nvidia.com/jax-toolbox: environment-variables and performance-profiling/gpu-performance.
_TOOLBOX = "NVIDIA JAX-Toolbox"

MEMORY_FRACTION: Final = 0.9

SETTINGS: Final[tuple[EnvironmentSetting, ...]] = (
    EnvironmentSetting(
        "XLA_CLIENT_MEM_FRACTION",
        str(MEMORY_FRACTION),
        "jax takes 90% of the memory at the start, 75% unless told; the rest is left to CUDA's "
        f"libraries ({_TOOLBOX}: GPU performance)",
        aliases=("XLA_PYTHON_CLIENT_MEM_FRACTION",),  # jax refuses to start with both
    ),
    EnvironmentSetting(
        "XLA_FLAGS",
        "--xla_gpu_enable_latency_hiding_scheduler=true",
        f"moves collectives so that they overlap with computation ({_TOOLBOX}: set in its images)",
    ),
    EnvironmentSetting(
        "XLA_FLAGS",
        "--xla_gpu_enable_pipelined_all_gather=true",
        "starts a layer's parameter gather during the layer before, in scanned layers "
        f"({_TOOLBOX}: pipelined communication for FSDP)",
    ),
    EnvironmentSetting(
        "XLA_FLAGS",
        "--xla_gpu_enable_pipelined_reduce_scatter=true",
        f"the same for the scatter of gradients ({_TOOLBOX}: as above)",
    ),
    EnvironmentSetting(
        "XLA_FLAGS",
        "--xla_gpu_enable_pipelined_all_reduce=true",
        f"the same for the sums of data parallelism ({_TOOLBOX}: as above)",
    ),
    EnvironmentSetting(
        "XLA_FLAGS",
        "--xla_gpu_enable_while_loop_double_buffering=true",
        f"gives pipelined loops two buffers in turn instead of copies ({_TOOLBOX}: as above)",
    ),
)
