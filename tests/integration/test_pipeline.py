"""A model in stages on several devices has the loss and gradients of a loop on one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError, replace
from axlearn_core.module import functional
from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    make_mesh,
    parameter_shardings,
    per_device,
    placing,
)
from axlearn_core.training.share import place_batch
from axlearn_layers import (
    CausalLM,
    Circular,
    DenseFeedForward,
    OneForwardOneBackward,
    Pipeline,
    PipelineSchedule,
    Repeat,
    SequenceInfo,
    SequenceLayer,
    TransformerBlock,
)

# float32 sums in another order, relative to the largest entry of an array.
RTOL = 1e-5
LAYERS, MICROBATCHES = 4, 4


class Block(SequenceLayer):
    """A transformer block, and something that is computed on each device by itself."""

    class Config(SequenceLayer.Config):
        block: TransformerBlock.Config = TransformerBlock.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.block: TransformerBlock = self.add_child(
            "block", cfg.block.set(input_dim=cfg.input_dim)
        )

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        axes = ("batch", "seq", None)
        return self.block.forward(x, info) + per_device(jnp.sin, [axes], axes)(x)


def lm() -> CausalLM.Config:
    cfg = CausalLM.default_config().set(vocab_size=16, dim=8)
    layer = Block.default_config()
    layer.block.attention.num_heads = 2
    layer.block.feed_forward = DenseFeedForward.Config(hidden_dim=8)
    cfg.stack = Repeat.Config(num_layers=LAYERS, layer=layer)
    return cfg


def staged(stages: int, schedule: PipelineSchedule.Config) -> CausalLM:
    cfg = lm()
    new = Pipeline.default_config().set(
        num_stages=stages, num_microbatches=MICROBATCHES, schedule=schedule
    )
    replace(cfg, Repeat, new)
    return cfg.instantiate()


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 16, (4 * MICROBATCHES, 7), dtype=np.int32)
    segments = np.repeat([[1, 2, 0]], 2, axis=1).astype(np.int32)
    return {
        "input_ids": tokens[:, :-1],
        "target_ids": tokens[:, 1:],
        "target_weights": rng.uniform(size=(len(tokens), 6)).astype(np.float32),
        "segment_ids": np.tile(segments, (len(tokens), 1)),
    }


def loss_and_gradients(
    model: CausalLM,
    state: Any,
    mesh: Mapping[str, int],
    rules: Mapping[str, Any] = DEFAULT_RULES,
) -> tuple[Any, Any]:
    devices = jax.devices()[: math.prod(mesh.values())]
    placement = Placement(make_mesh(mesh, devices), rules)
    shardings = parameter_shardings(model.parameter_specs(), placement.mesh, placement.rules)

    def mean_loss(state: Any, batch: Any) -> jax.Array:
        loss, _ = functional(model, state=state, prng_key=None, inputs=(batch,), is_training=True)
        return loss.total / loss.weight

    with placing(placement):
        result = jax.jit(jax.value_and_grad(mean_loss))(
            jax.device_put(state, shardings), place_batch(batch(), placement)
        )
    loss, gradients = jax.tree.map(np.asarray, result)
    return loss, gradients


@cache
def expected() -> tuple[Any, Any, Any]:
    model = lm().instantiate()
    state = model.initialize(jax.random.key(0))
    return state, *loss_and_gradients(model, state, {})


CASES = {
    "circular": ({"pipeline": 2}, 2, Circular.Config(num_repeats=2)),
    "circular, data": ({"pipeline": 4, "data": 2}, 4, Circular.default_config()),
    "circular, two stages on a device, fsdp, model": (
        {"pipeline": 2, "fsdp": 2, "model": 2},
        4,
        Circular.default_config(),
    ),
    "1f1b": ({"pipeline": 2}, 2, OneForwardOneBackward.default_config()),
    "1f1b, data": ({"pipeline": 4, "data": 2}, 4, OneForwardOneBackward.default_config()),
    "1f1b, fsdp, model": (
        {"pipeline": 2, "fsdp": 2, "model": 2},
        2,
        OneForwardOneBackward.default_config(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_those_of_a_loop_on_one_device(case: str) -> None:
    mesh, stages, schedule = CASES[case]
    rules = dict(DEFAULT_RULES)
    if "fsdp" in mesh:
        rules["vocab"] = ("pipeline", "model")  # stages share the work of the head
    state, loop_loss, loop_gradients = expected()
    model = staged(stages, schedule)
    stack: Any = model.stack
    loss, gradients = loss_and_gradients(
        model, {**state, "stack": stack.as_staged(state["stack"])}, mesh, rules
    )
    np.testing.assert_allclose(loss, loop_loss, rtol=RTOL)
    gradients["stack"] = stack.as_repeated(gradients["stack"])
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(loop_gradients), strict=True
    ):
        scale = np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=RTOL * scale, err_msg=str(path))


def test_stages_that_the_mesh_does_not_divide_are_refused() -> None:
    placement = Placement(make_mesh({"pipeline": 4}, jax.devices()[:4]), DEFAULT_RULES)
    specs = staged(2, Circular.default_config()).parameter_specs()
    with pytest.raises(ConfigError, match=r"axis 'stages' of size 2 over pipeline \(=4\)"):
        parameter_shardings(specs, placement.mesh, placement.rules)


def test_microbatches_that_devices_cannot_share_are_refused() -> None:
    model = staged(2, Circular.default_config())
    state = jax.eval_shape(model.initialize, jax.random.key(0))
    with (
        placing(Placement(make_mesh({"data": 8}), DEFAULT_RULES)),
        pytest.raises(ConfigError, match=r"\(=4\) times the 8 parts .* at a time \(=16\)"),
    ):
        jax.eval_shape(
            lambda state: functional(model, state=state, prng_key=None, inputs=(batch(),)), state
        )
