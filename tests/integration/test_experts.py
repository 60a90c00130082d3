"""Experts divided among devices: the same numbers as on one, and no token lost."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import functional
from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    make_mesh,
    parameter_shardings,
    placing,
)
from axlearn_layers import (
    CapacityDispatch,
    Dispatch,
    Dropless,
    GatedFeedForward,
    MixtureOfExperts,
    SigmoidRouter,
    SoftmaxRouter,
)

DIM, HIDDEN, EXPERTS, TOP_K = 16, 8, 16, 3
BATCH, SEQ = 8, 16

# float32 sums in another order; of a result's largest entry, since single ones may cancel.
RTOL = 1e-5

MESHES: list[dict[str, int]] = [
    {"expert": 8},
    {"expert": 4, "model": 2},
    {"expert": 2, "fsdp": 2, "data": 2},
    {"expert": 2, "fsdp": 4},
    {"expert": 2, "seq": 2, "model": 2},
    {"data": 4, "model": 2},  # experts on every device, and each sorts its own tokens
]
ROUTERS = {
    "softmax": SoftmaxRouter.default_config().set(
        balance_loss_scale=0.1, balance_over="batch", z_loss_scale=0.1
    ),
    "sigmoid": SigmoidRouter.default_config().set(
        balance_loss_scale=0.1, bias_rate=0.1, num_groups=4, top_groups=2
    ),
}
DISPATCHES: dict[str, Dispatch.Config] = {
    "dropless": Dropless.default_config(),
    "capacity": CapacityDispatch.default_config(),
}


def mixture(router: str, dispatch: str) -> MixtureOfExperts.Config:
    return MixtureOfExperts.default_config().set(
        input_dim=DIM,
        hidden_dim=HIDDEN,
        num_experts=EXPERTS,
        top_k=TOP_K,
        router=ROUTERS[router],
        dispatch=DISPATCHES[dispatch],
        shared=GatedFeedForward.default_config().set(hidden_dim=HIDDEN),
    )


@cache
def outcome(router: str, dispatch: str, mesh: tuple[tuple[str, int], ...], skewed: bool) -> Any:
    """Returns output, gradients, and what is reported, of a mixture on a mesh."""
    layer = mixture(router, dispatch).instantiate(name="mixture")
    shape = dict(mesh)
    devices = jax.devices()[: math.prod(shape.values())]
    placement = Placement(make_mesh(shape, devices), DEFAULT_RULES)
    specs = layer.parameter_specs()
    state = layer.initialize(jax.random.key(0))
    if skewed:  # every token's best is expert 0, then 1 and 2, which all lie on the first device
        weight = np.zeros((DIM, EXPERTS), np.float32)
        weight[0] = -np.arange(EXPERTS)
        state["router"]["projection"]["weight"] = weight
    state = jax.device_put(state, parameter_shardings(specs, placement.mesh, placement.rules))
    x = np.random.default_rng(0).normal(size=(BATCH, SEQ, DIM)).astype(np.float32)
    if skewed:
        x[..., 0] = 1
    target = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def loss(state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        y, side = functional(layer, state=state, prng_key=None, inputs=(x,), is_training=True)
        auxiliary = sum(value.mean() for value in jax.tree.leaves(side.losses))
        return jnp.vdot(y, target) + auxiliary, (y, side)

    with placing(placement):
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        lowered = step.lower(state, jax.device_put(x, placement.batch(3)))
    result = lowered.compile()(state, jax.device_put(x, placement.batch(3)))
    return jax.tree.map(np.asarray, result)


def assert_equal(got: Any, want: Any) -> None:
    leaves = zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True)
    for (path, ours), theirs in leaves:
        if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.float0):
            continue
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(
            ours, theirs, rtol=RTOL, atol=RTOL * scale, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize("skewed", [False, True], ids=["", "skewed"])
@pytest.mark.parametrize("dispatch", DISPATCHES)
@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_outputs_gradients_and_reports_equal_those_of_one_device(
    mesh: dict[str, int], router: str, dispatch: str, skewed: bool
) -> None:
    got = outcome(router, dispatch, tuple(mesh.items()), skewed)
    assert_equal(got, outcome(router, dispatch, (), skewed))
