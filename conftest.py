"""Every test sees 8 virtual devices on the CPU, and compiles in a third of the time.

What tests compile runs for a moment, so that slow code is done sooner than fast code. An
environment that sets XLA_FLAGS has its way.
"""

import os
from importlib.metadata import version

FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if version("jaxlib").startswith("0.10."):  # later ones know no other way to make fusions
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")

os.environ.setdefault("NPROC", "32")  # threads, of which collectives of 8 devices hold many
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
