"""A recipe changes in what numbers a model trains, and not what it learns."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError, ConfigError, find
from axlearn_core.training import Precision
from axlearn_core.training.share import place_batch
from axlearn_experiments.text import markov
from axlearn_layers import Linear, QuantizedLinear

STEPS = 40
BLOCKS = ["qkv.**.projection", "attention.output", "gate_up", "down"]


RECIPES = {
    "float32": Precision.Config(),
    "bfloat16": Precision.Config(compute_dtype="bfloat16", gradient_dtype="bfloat16"),
    "eight bits": Precision.Config(
        parts=[f"model.**.{path}=layers/quantized_linear" for path in BLOCKS]
        + ["model.**.gate_up.format=int8"]
    ),
}


def trainer(recipe: str) -> Any:
    cfg: Any = RECIPES[recipe].instantiate()(markov())
    return cfg.set(max_step=STEPS, compile_cache=None, mesh_shape={"data": 1})


@cache
def loss_after_some_steps(recipe: str) -> float:
    cfg = trainer(recipe)
    cfg.input.set(seq_len=32, batch_size=4)  # products of bfloat16 are slow on CPUs
    run = cfg.instantiate()
    program = run.program(run.placement())
    step = program.compile_train_step(run.input.batch_shape()).result().run
    state, losses = program.initial_state(), []
    for batch, _ in zip(run.input.batches(), range(STEPS), strict=False):
        state, metrics = step(state, place_batch(batch, program.placement))
        losses.append(metrics["loss"])
    return float(np.mean(jax.device_get(losses[-5:])))


@pytest.mark.parametrize("recipe", ["bfloat16", "eight bits"])
def test_the_loss_is_within_two_percent_of_that_of_float32(recipe: str) -> None:
    exact = loss_after_some_steps("float32")
    assert exact < 3.5  # of ln 64 = 4.2 at the start
    assert loss_after_some_steps(recipe) == pytest.approx(exact, rel=0.02)
    assert loss_after_some_steps(recipe) != exact


def test_a_recipe_leaves_alone_what_no_path_names() -> None:
    cfg = Precision.Config(
        compute_dtype="bfloat16", parts=["model.**.down=layers/quantized_linear"]
    ).instantiate()(markov())
    assert cfg.compute_dtype == "bfloat16"
    assert cfg.accumulation_dtype == "float32"
    kinds = {type(node) for path, node in find(cfg, Linear) if path.endswith("down")}
    others = {type(node) for path, node in find(cfg, Linear) if not path.endswith("down")}
    assert kinds == {QuantizedLinear.Config}
    assert others == {Linear.Config}


def test_a_path_of_a_recipe_that_matches_nothing_is_an_error() -> None:
    recipe = Precision.Config(parts=["model.**.feedforward=layers/quantized_linear"])
    with pytest.raises(ConfigError, match="matches nothing"):
        recipe.instantiate()(markov())


def test_eight_bits_are_no_dtype_of_a_trainer() -> None:
    with pytest.raises((BuildError, ConfigError), match="put QuantizedLinear in their place"):
        markov().set(compute_dtype="float8").instantiate()
