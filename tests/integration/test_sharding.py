"""The same numbers on one device and on eight, however they are arranged."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from axlearn_core.module import functional
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, placing
from axlearn_core.training.share import place_batch
from axlearn_experiments import llama
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput

# float32 sums in another order: measured differences are below 2e-6 relative to the largest entry.
RTOL = 1e-5

MESHES = [
    {"data": 8},
    {"fsdp": 8},
    {"model": 2},
    {"data": 2, "fsdp": 4},
    {"fsdp": 4, "model": 2},
    {"data": 2, "fsdp": 2, "model": 2},
]


@cache
def built() -> Any:
    model = llama(vocab_size=64, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=64)
    data = SyntheticInput.default_config().set(vocab_size=64, seq_len=32, batch_size=8)
    cfg = trainer(model, data, peak_rate=1e-3, max_step=3)
    cfg.compile_cache = None
    return cfg.instantiate()


@cache
def loss_and_gradients(mesh: tuple[tuple[str, int], ...]) -> tuple[float, Any]:
    run = built()
    shape = dict(mesh)
    devices = jax.devices()[: math.prod(shape.values())]
    placement = Placement(make_mesh(shape, devices), DEFAULT_RULES)
    program = run.program(placement)
    state = program.initial_state()
    batch = place_batch(next(run.input.batches()), placement)

    def mean_loss(params: Any, batch: Any) -> jax.Array:
        loss, _ = functional(
            run.model, state=params, prng_key=None, inputs=(batch,), is_training=True
        )
        return loss.total / loss.weight

    with placing(placement):
        loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(state.params, batch)
    return float(loss), jax.tree.map(np.asarray, gradients)


@pytest.mark.parametrize("mesh_shape", MESHES, ids=str)
def test_the_loss_equals_that_of_one_device(mesh_shape: dict[str, int]) -> None:
    loss, _ = loss_and_gradients(tuple(mesh_shape.items()))
    np.testing.assert_allclose(loss, loss_and_gradients(())[0], rtol=RTOL)


@pytest.mark.parametrize("mesh_shape", MESHES, ids=str)
def test_every_gradient_equals_that_of_one_device(mesh_shape: dict[str, int]) -> None:
    _, gradients = loss_and_gradients(tuple(mesh_shape.items()))
    _, expected = loss_and_gradients(())
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(expected), strict=True
    ):
        scale = np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=RTOL * scale, err_msg=str(path))


def test_fsdp_keeps_an_eighth_of_the_parameters_on_each_device() -> None:
    placement = Placement(make_mesh({"fsdp": 8}), DEFAULT_RULES)
    state = built().program(placement).initial_state()
    matrices = [x for x in jax.tree.leaves(state.params) if x.ndim > 1]
    assert all(x.addressable_shards[0].data.size * 8 == x.size for x in matrices)


def test_the_optimizer_state_is_placed_as_its_parameters_are() -> None:
    placement = Placement(make_mesh({"fsdp": 4, "model": 2}), DEFAULT_RULES)
    state = built().program(placement).initial_state()
    placed = {x.shape: x.sharding for x in jax.tree.leaves(state.params)}
    for moment in jax.tree.leaves(state.learner):
        if moment.ndim > 1:
            assert moment.sharding.is_equivalent_to(placed[moment.shape], moment.ndim)
