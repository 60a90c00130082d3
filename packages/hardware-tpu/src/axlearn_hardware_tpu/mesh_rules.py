"""What to do with how many TPUs: mesh, precision, and what to compute again.

Parameters are sharded within a slice, where ICI is fast. Rules hold by themselves, recipes where a
user asks for them by name.
"""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import FitMesh, FitRemat, Recipe
from axlearn_core.training import EightBits, Precision

# The matrix units take bfloat16, float32 in several passes
# (https://docs.cloud.google.com/tpu/docs/bfloat16); activations take half the memory. Parameters
# and optimizer stay float32: updates are far smaller than what bfloat16 can add to them
# (arXiv:1710.03740).
_BFLOAT16: Final = Precision.Config(compute_dtype="bfloat16")

ONE_SLICE: Final = Recipe.Config(steps=[FitMesh.Config(), _BFLOAT16, FitRemat.Config()])
SLICES_OF_256: Final = Recipe.Config(
    steps=[FitMesh.Config(domain=256), _BFLOAT16, FitRemat.Config()]
)

_SWAPS = {
    "layers/linear": "layers/quantized_linear",
    "layers/gated_experts": "layers/quantized_gated_experts",
}

# v5e and v6e multiply INT8 twice as fast as bfloat16, TPU7x FP8; v4 does INT8 as fast, and v5p and
# v6e FP8 (chips.py). To be asked for: scales cost passes over the operands, and what rounding does
# to a loss is for its owner to say.
INT8: Final = EightBits.Config(format="int8", swaps=_SWAPS)
FLOAT8: Final = EightBits.Config(format="float8", swaps=_SWAPS)

# What does not fit waits in the host's memory instead of being made again. To be asked for: it pays
# where layers compute longer than their activations take over PCIe
# (https://docs.jax.dev/en/latest/notebooks/host-offloading.html). Not measured here.
OFFLOAD: Final = FitRemat.Config(offload=True)

# Sums over many devices and micro-batches lose what is small beside them in bfloat16
# (`docs/precision.md`). To be asked for: they are twice the bytes on the network.
FLOAT32_GRADIENTS: Final = Precision.Config(gradient_dtype="float32", accumulation_dtype="float32")

# Half of the memory of gradients, and of their traffic. To be asked for: see above.
BFLOAT16_GRADIENTS: Final = Precision.Config(
    gradient_dtype="bfloat16", accumulation_dtype="bfloat16"
)
