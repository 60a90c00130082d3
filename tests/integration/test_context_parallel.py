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
from axlearn_core.training.prefetch import place_batch
from axlearn_experiments import llama
from axlearn_experiments.families import mamba2
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput

# float32 sums in another order: measured differences are below 2e-6 relative to the largest entry.
RTOL = 1e-5

LLAMA_MESHES = [
    {"seq": 8},  # more than the 4 heads: a ring
    {"data": 2, "seq": 4},
    {"seq": 2, "fsdp": 2, "model": 2},
]

MODELS = {
    "llama": lambda: llama(
        vocab_size=64, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=64
    ),
    # A recurrence over the whole sequence, which the compiler gathers.
    "mamba2": lambda: mamba2(
        vocab_size=64, dim=16, num_layers=1, state_dim=4, head_dim=8, chunk_size=8
    ),
}
CASES = [*(("llama", mesh) for mesh in LLAMA_MESHES), ("mamba2", {"seq": 4})]


@cache
def built(name: str) -> Any:
    data = SyntheticInput.default_config().set(vocab_size=64, seq_len=32, batch_size=8)
    cfg = trainer(MODELS[name](), data, peak_rate=1e-3, max_step=3)
    cfg.compile_cache = None
    return cfg.instantiate()


def loss_and_gradients(name: str, mesh_shape: dict[str, int]) -> tuple[float, Any]:
    run = built(name)
    devices = jax.devices()[: math.prod(mesh_shape.values())]
    placement = Placement(make_mesh(mesh_shape, devices), DEFAULT_RULES)
    state = run.program(placement).initial_state()
    batch = place_batch(next(run.input.batches()), placement)

    def mean_loss(params: Any, batch: Any) -> jax.Array:
        loss, _ = functional(
            run.model, state=params, prng_key=None, inputs=(batch,), is_training=True
        )
        return loss.total / loss.weight

    with placing(placement):
        loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(state.params, batch)
    return float(loss), jax.tree.map(np.asarray, gradients)


@cache
def on_one_device(name: str) -> tuple[float, Any]:
    return loss_and_gradients(name, {})


@pytest.mark.parametrize(("name", "mesh_shape"), CASES, ids=str)
def test_loss_and_gradients_equal_those_of_one_device(
    name: str, mesh_shape: dict[str, int]
) -> None:
    loss, gradients = loss_and_gradients(name, mesh_shape)
    expected_loss, expected = on_one_device(name)
    np.testing.assert_allclose(loss, expected_loss, rtol=RTOL)
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(expected), strict=True
    ):
        scale = np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=RTOL * scale, err_msg=str(path))


def test_what_is_generated_does_not_depend_on_the_mesh() -> None:
    """A cache is read whole: no length of a prompt has to divide."""
    model, prompt = built("llama").model, jnp.array([[3, 1, 4, 1, 5]])

    def scores(placement: Placement) -> np.ndarray:
        state = built("llama").program(placement).initial_state()

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
            return np.asarray(jax.jit(read)(state.params))

    one = Placement(make_mesh({}, jax.devices()[:1]), DEFAULT_RULES)
    split = Placement(make_mesh({"seq": 2, "model": 2}, jax.devices()[:4]), DEFAULT_RULES)
    np.testing.assert_allclose(scores(split), scores(one), atol=1e-5)
