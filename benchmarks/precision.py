"""Loss after some steps in each precision, against float32.

    python benchmarks/precision.py --steps 200

The model is text.markov's, at its own rates; the loss is the mean of the last tenth of the steps,
on batches that all precisions share.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np

from axlearn_core.training import Precision
from axlearn_core.training.share import place_batch
from axlearn_experiments.text import markov

BLOCKS = ["qkv.**.projection", "attention.output", "gate_up", "down"]


def eight_bits(format: str, **fields: str) -> Precision.Config:
    """All products of the blocks; embeddings, norms, scores and the head stay as they are."""
    parts = [f"model.**.{path}=layers/quantized_linear" for path in BLOCKS]
    parts += [f"model.**.{path}.format={format}" for path in BLOCKS]
    parts += [
        f"model.**.{path}.{name}={value}" for path in BLOCKS for name, value in fields.items()
    ]
    return Precision.default_config().set(parts=parts)


RECIPES: dict[str, Precision.Config] = {
    "float32": Precision.default_config(),
    "bfloat16, float32 gradients": Precision.default_config().set(compute_dtype="bfloat16"),
    "bfloat16, bfloat16 gradients": Precision.default_config().set(
        compute_dtype="bfloat16", gradient_dtype="bfloat16"
    ),
    "float8, a scale per channel": eight_bits("float8"),
    "float8, a scale per tensor": eight_bits("float8", scaling="tensor"),
    "int8, a scale per channel": eight_bits("int8"),
    "int8, a scale per tensor": eight_bits("int8", scaling="tensor"),
    "int8, plain gradients": eight_bits("int8", quantize_gradients="false"),
}


def losses(recipe: Precision.Config, steps: int) -> np.ndarray:
    cfg: Any = recipe.instantiate()(markov())
    cfg.set(max_step=steps, compile_cache=None, mesh_shape={"data": 1})
    run = cfg.instantiate()
    program = run.program(run.placement())
    train_step = program.compile_train_step(run.input.batch_shape()).result().run
    state = program.initial_state()
    seen = []
    for batch, _ in zip(run.input.batches(), range(steps), strict=False):
        state, metrics = train_step(state, place_batch(batch, program.placement))
        seen.append(metrics["loss"])
    return np.array(jax.device_get(seen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    reference = None
    print(f"| precision | loss after {steps} steps | against float32 |\n| --- | --: | --: |")
    for name, recipe in RECIPES.items():
        final = losses(recipe, steps)[-(steps // 10) :].mean()
        reference = final if reference is None else reference
        print(f"| {name} | {final:.4f} | {100 * (final / reference - 1):+.2f}% |", flush=True)


if __name__ == "__main__":
    main()
