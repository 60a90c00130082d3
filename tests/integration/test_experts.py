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
    {"data": 2, "model": 2},  # experts on every device, and each sorts its own tokens
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
    "dropless in little room": Dropless.default_config().set(room=1.0),
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
def compiled(router: str, dispatch: str, mesh: tuple[tuple[str, int], ...]) -> Any:
    """Returns loss, outputs, gradients and reports of a mixture, as a function of the router."""
    layer = mixture(router, dispatch).instantiate(name="mixture")
    shape = dict(mesh)
    devices = jax.devices()[: math.prod(shape.values())]
    placement = Placement(make_mesh(shape, devices), DEFAULT_RULES)
    shardings = parameter_shardings(layer.parameter_specs(), placement.mesh, placement.rules)
    target = np.random.default_rng(1).normal(size=(BATCH, SEQ, DIM)).astype(np.float32)

    def loss(state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        y, side = functional(layer, state=state, prng_key=None, inputs=(x,), is_training=True)
        auxiliary = sum(value.mean() for value in jax.tree.leaves(side.losses))
        return jnp.vdot(y, target) + auxiliary, (y, side)

    def run(skewed: bool) -> Any:
        state, x = values(layer, skewed)
        placed = jax.device_put(state, shardings), jax.device_put(x, placement.batch(3))
        with placing(placement):
            return jax.tree.map(np.asarray, step(*placed))

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    return run


def values(layer: MixtureOfExperts, skewed: bool) -> tuple[Any, np.ndarray]:
    """Draws parameters and an input; if skewed, every token goes to the first experts."""
    state = layer.initialize(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(BATCH, SEQ, DIM)).astype(np.float32)
    if skewed:
        x[..., 0] = 1
        weight = np.zeros((DIM, EXPERTS), np.float32)
        weight[0] = -np.arange(EXPERTS)
        state["router"]["projection"]["weight"] = weight
    return state, x


def assert_equal(got: Any, want: Any) -> None:
    leaves = zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True)
    for (path, ours), theirs in leaves:
        if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.float0):
            continue
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(
            ours, theirs, rtol=RTOL, atol=RTOL * scale, err_msg=jax.tree_util.keystr(path)
        )


# The router has no part in how rows travel: two meshes try the other one.
CASES = [(mesh, "softmax", dispatch) for mesh in MESHES for dispatch in ("dropless", "capacity")]
CASES += [(mesh, "sigmoid", "dropless") for mesh in (MESHES[1], MESHES[3])]
CASES += [(MESHES[1], "sigmoid", "capacity")]


@pytest.mark.parametrize("skewed", [False, True], ids=["spread", "all to the first"])
@pytest.mark.parametrize(("mesh", "router", "dispatch"), CASES, ids=str)
def test_outputs_gradients_and_reports_equal_those_of_one_device(
    mesh: dict[str, int], router: str, dispatch: str, skewed: bool
) -> None:
    got = compiled(router, dispatch, tuple(mesh.items()))(skewed)
    assert_equal(got, compiled(router, dispatch, ())(skewed))


def test_what_finds_no_room_is_dropped_and_reported() -> None:
    (_, (y, side)), _ = compiled("softmax", "dropless in little room", (("expert", 8),))(True)
    # Every token goes to the experts 0 and 1, of the first device, and 2, of the second. Each has
    # room for 48 rows; 256 come to the first, of which 3/16 are kept, and 128 to the second.
    assert side.summaries["dispatch"]["dropped_fraction"] == 1 - (48 + 48) / 384
    (_, (whole, _)), _ = compiled("softmax", "dropless", ())(True)
    complete = np.isclose(y, whole, rtol=1e-4, atol=1e-4).all(axis=-1)
    assert complete[:, :3].all()
    assert not complete[:, 3:].any()


def test_experts_that_the_mesh_does_not_divide_are_an_error_before_compiling() -> None:
    layer = mixture("softmax", "dropless").set(num_experts=6, top_k=2)
    placement = Placement(make_mesh({"expert": 4}, jax.devices()[:4]), DEFAULT_RULES)
    with pytest.raises(ConfigError, match=r"experts/down: axis 'expert' of size 6 over expert"):
        parameter_shardings(
            layer.instantiate(name="mixture").parameter_specs(), placement.mesh, placement.rules
        )
