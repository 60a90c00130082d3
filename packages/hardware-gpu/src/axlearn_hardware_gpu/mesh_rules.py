"""What to do with how many GPUs: mesh, precision, and what to compute again.

Parameters are sharded where NVLink joins the GPUs, if they fit. Rules hold by themselves, recipes
where a user asks for them by name.
"""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import FitMesh, FitRemat, Recipe
from axlearn_core.training import EightBits, Precision

# Tensor cores multiply bfloat16 twice as fast as TF32 (chips.py), and its range needs no scaling of
# the loss (arXiv:1905.12322). Parameters and optimizer stay float32: updates are far smaller than
# what bfloat16 can add to them (arXiv:1710.03740).
_BFLOAT16: Final = Precision.Config(compute_dtype="bfloat16")

WITHOUT_NVLINK: Final = Recipe.Config(
    steps=[FitMesh.Config(domain=1), _BFLOAT16, FitRemat.Config()]
)
NODES_OF_8: Final = Recipe.Config(steps=[FitMesh.Config(domain=8), _BFLOAT16, FitRemat.Config()])
NVL72: Final = Recipe.Config(steps=[FitMesh.Config(domain=72), _BFLOAT16, FitRemat.Config()])

# From Hopper and Ada on, tensor cores multiply FP8 twice as fast as bfloat16 (chips.py), with the
# formats of arXiv:2209.05433. To be asked for: scales cost passes over the operands, and what
# rounding does to a loss is for its owner to say. INT8 is not offered: Blackwell has given it up.
FLOAT8: Final = EightBits.Config(
    format="float8",
    swaps={
        "layers/linear": "layers/quantized_linear",
        "layers/gated_experts": "layers/quantized_gated_experts",
    },
)

# What does not fit waits in the host's memory instead of being made again. To be asked for: it pays
# where the link to the host is fast, such as Grace's 450 GB/s each way, and hardly over PCIe
# (https://docs.jax.dev/en/latest/notebooks/host-offloading.html). Not measured here.
OFFLOAD: Final = FitRemat.Config(offload=True)

# Sums over many devices and micro-batches lose what is small beside them in bfloat16
# (`docs/precision.md`). To be asked for: they are twice the bytes on the network.
FLOAT32_GRADIENTS: Final = Precision.Config(gradient_dtype="float32", accumulation_dtype="float32")

# Half of the memory of gradients, and of their traffic. To be asked for: see above.
BFLOAT16_GRADIENTS: Final = Precision.Config(
    gradient_dtype="bfloat16", accumulation_dtype="bfloat16"
)
