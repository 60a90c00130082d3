"""The same numbers on one device and where the sequence lies on several."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import functional
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, placing
from axlearn_core.training.share import place_batch
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers.families import llama, mamba2

# float32 sums in another order: measured differences are below 2e-6 relative to the largest entry.
RTOL = 1e-5

MESHES = [
    {"seq": 8},  # more than the 4 heads: a ring
    {"data": 2, "seq": 4},
    {"seq": 2, "fsdp": 2, "model": 2},
]

MODELS = {
    "llama": lambda: llama(
        vocab_size=64, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=64
    ),
    "mamba2": lambda: mamba2(
        vocab_size=64, dim=16, num_layers=1, state_dim=4, head_dim=8, chunk_size=8
    ),
}


@cache
def built(name: str) -> Any:
    data = SyntheticInput.default_config().set(vocab_size=64, seq_len=32, batch_size=8)
    cfg = trainer(MODELS[name](), data, peak_rate=1e-3, max_step=3)
    cfg.compile_cache = None
    return cfg.instantiate()


@cache
def parameters(name: str) -> Any:
    return jax.tree.map(np.asarray, built(name).program(on({})).initial_state().params)


def on(mesh_shape: dict[str, int]) -> Placement:
    devices = jax.devices()[: math.prod(mesh_shape.values())]
    return Placement(make_mesh(mesh_shape, devices), DEFAULT_RULES)


def placed_parameters(name: str, placement: Placement) -> Any:
    structs = built(name).program(placement).state.params
    return jax.device_put(parameters(name), jax.tree.map(lambda x: x.sharding, structs))


def run_on(name: str, mesh_shape: dict[str, int], transform: Any) -> Any:
    """Runs the loss of a batch by the parameters, transformed, on a mesh."""
    run, placement = built(name), on(mesh_shape)
    batch = place_batch(next(run.input.batches()), placement)

    def mean_loss(params: Any, batch: Any) -> jax.Array:
        loss, _ = functional(
            run.model, state=params, prng_key=None, inputs=(batch,), is_training=True
        )
        return loss.total / loss.weight

    with placing(placement):
        result = jax.jit(transform(mean_loss))(placed_parameters(name, placement), batch)
    return jax.tree.map(np.asarray, result)


@cache
def llama_on_one_device() -> Any:
    return run_on("llama", {}, jax.value_and_grad)


@pytest.mark.parametrize("mesh_shape", MESHES, ids=str)
def test_loss_and_gradients_equal_those_of_one_device(mesh_shape: dict[str, int]) -> None:
    got = run_on("llama", mesh_shape, jax.value_and_grad)
    for (path, x), want in zip(
        jax.tree_util.tree_leaves_with_path(got),
        jax.tree.leaves(llama_on_one_device()),
        strict=True,
    ):
        scale = np.abs(want).max()
        np.testing.assert_allclose(x, want, rtol=RTOL, atol=RTOL * scale, err_msg=str(path))


def test_a_recurrence_over_the_whole_sequence_stays_right() -> None:
    """The compiler gathers what it needs."""
    got, want = (run_on("mamba2", mesh, lambda loss: loss) for mesh in ({"seq": 4}, {}))
    np.testing.assert_allclose(got, want, rtol=RTOL)


def test_what_is_generated_does_not_depend_on_the_mesh() -> None:
    """A cache is read whole: no length of a prompt has to divide."""
    model, prompt = built("llama").model, jnp.array([[3, 1, 4, 1, 5]])

    def scores(placement: Placement) -> np.ndarray:
        def read(params: Any) -> jax.Array:
            (scores, _), _ = functional(
                model,
                state=params,
                prng_key=None,
                inputs=(prompt, model.init_cache(1, 8, "float32")),
                method="extend",
            )
            return scores

        with placing(placement):
            return np.asarray(jax.jit(read)(placed_parameters("llama", placement)))

    np.testing.assert_allclose(scores(on({"seq": 2, "model": 2})), scores(on({})), atol=1e-5)
