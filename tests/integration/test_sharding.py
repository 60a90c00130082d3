"""The same numbers on one device and on several, however they are arranged."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from axlearn_core.config import replace
from axlearn_core.module import functional
from axlearn_core.parallel import Placement, placing
from axlearn_core.training import Trainer
from axlearn_core.training.share import place_batch
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import CapacityDispatch, CausalLM, FeedForward, MixtureOfExperts
from axlearn_layers.families import llama

# float32 sums in another order: measured differences are below 2e-6 relative to the largest entry.
RTOL = 1e-5

Modify = Callable[[CausalLM.Config], None]


def dense(model: CausalLM.Config) -> None:
    """As it is."""


def experts(model: CausalLM.Config) -> None:
    """With four experts that have room for all tokens."""
    mixture = MixtureOfExperts.default_config().set(num_experts=4, top_k=2)
    mixture.dispatch = CapacityDispatch.default_config().set(factor=2.0)
    replace(model, FeedForward, mixture)


# A mesh by its axes, and what is changed in the model. An axis or a strategy is one line.
MESHES: list[tuple[dict[str, int], Modify]] = [
    ({"data": 8}, dense),
    ({"fsdp": 8}, dense),
    ({"model": 2}, dense),  # norms are sharded along the sequence
    ({"data": 2, "fsdp": 4}, dense),
    ({"data": 4, "model": 2}, dense),
    ({"fsdp": 4, "model": 2}, dense),
    ({"data": 2, "fsdp": 2, "model": 2}, dense),
    ({"expert": 4}, experts),
    ({"data": 2, "expert": 4}, experts),
    ({"expert": 2, "fsdp": 4}, experts),
    ({"expert": 4, "model": 2}, experts),
    ({"expert": 2, "fsdp": 2, "model": 2}, experts),
]


def name(case: Any) -> str:
    return case.__name__ if callable(case) else "-".join(f"{a}{size}" for a, size in case.items())


every_mesh = pytest.mark.parametrize(("mesh", "modify"), MESHES, ids=name)


@cache
def built(modify: Modify) -> Trainer:
    model = llama(vocab_size=64, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=64)
    data = SyntheticInput.default_config().set(vocab_size=64, seq_len=32, batch_size=8)
    modify(model)
    cfg = trainer(model, data, peak_rate=1e-3, max_step=3)
    return cfg.set(compile_cache=None, mesh_shape={}).instantiate()


def placement(modify: Modify, mesh: dict[str, int]) -> Placement:
    devices = jax.devices()[: math.prod(mesh.values())]
    run: Trainer = built(modify).config.clone(mesh_shape=mesh).instantiate()
    return run.placement(devices)


@cache
def initial_parameters(modify: Modify) -> Any:
    return built(modify).program(placement(modify, {})).initial_state().params


@cache
def loss_and_gradients(modify: Modify, mesh: tuple[tuple[str, int], ...]) -> tuple[float, Any]:
    run, where = built(modify), placement(modify, dict(mesh))
    places = jax.tree.map(lambda x: x.sharding, run.program(where).state.params)
    params = jax.device_put(initial_parameters(modify), places)
    batch = place_batch(next(run.input.batches()), where)

    def mean_loss(params: Any, batch: Any) -> jax.Array:
        loss, _ = functional(
            run.model, state=params, prng_key=None, inputs=(batch,), is_training=True
        )
        return loss.total / loss.weight

    with placing(where):
        loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(params, batch)
    return float(loss), jax.tree.map(np.asarray, gradients)


def assert_close(got: Any, expected: Any) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(got)
    for (path, value), want in zip(leaves, jax.tree.leaves(expected), strict=True):
        scale = np.abs(want).max()
        np.testing.assert_allclose(value, want, rtol=RTOL, atol=RTOL * scale, err_msg=str(path))


@every_mesh
def test_the_loss_equals_that_of_one_device(mesh: dict[str, int], modify: Modify) -> None:
    loss, _ = loss_and_gradients(modify, tuple(mesh.items()))
    np.testing.assert_allclose(loss, loss_and_gradients(modify, ())[0], rtol=RTOL)


@every_mesh
def test_every_gradient_equals_that_of_one_device(mesh: dict[str, int], modify: Modify) -> None:
    _, gradients = loss_and_gradients(modify, tuple(mesh.items()))
    assert_close(gradients, loss_and_gradients(modify, ())[1])


@cache
def after_one_step(mesh: tuple[tuple[str, int], ...]) -> Any:
    """The parameters after the compiled step, a clipped AdamW update included."""
    run, where = built(dense), placement(dense, dict(mesh))
    program = run.program(where)
    step = program.compile_train_step(run.input.batch_shape()).result().run
    state, _ = step(program.initial_state(), place_batch(next(run.input.batches()), where))
    return jax.tree.map(np.asarray, state.params)


@pytest.mark.parametrize("mesh", [{"fsdp": 4}, {"fsdp": 2, "model": 2}], ids=name)
def test_a_step_leads_to_the_parameters_of_one_device(mesh: dict[str, int]) -> None:
    assert_close(after_one_step(tuple(mesh.items())), after_one_step(()))


def test_fsdp_keeps_an_eighth_of_the_parameters_on_each_device() -> None:
    state = built(dense).program(placement(dense, {"fsdp": 8})).initial_state()
    matrices = [x for x in jax.tree.leaves(state.params) if x.ndim > 1]
    assert all(x.addressable_shards[0].data.size * 8 == x.size for x in matrices)


def test_the_optimizer_state_is_placed_as_its_parameters_are() -> None:
    state = built(dense).program(placement(dense, {"fsdp": 4, "model": 2})).initial_state()
    placed = {x.shape: x.sharding for x in jax.tree.leaves(state.params)}
    for moment in jax.tree.leaves(state.learner):
        if moment.ndim > 1:
            assert moment.sharding.is_equivalent_to(placed[moment.shape], moment.ndim)
