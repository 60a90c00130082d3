"""What stages of a pipeline send each other, in the program that a TPU would run."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from axlearn_core.module import ParameterSpec, functional, map_specs
from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    make_mesh,
    parameter_shardings,
    placing,
)
from axlearn_layers import (
    CausalLM,
    Circular,
    Linear,
    OneForwardOneBackward,
    Pipeline,
    SequenceInfo,
    SequenceLayer,
)

STAGES, MICROBATCHES, ROWS, SEQ, DIM = 4, 8, 2, 8, 128
MICROBATCH = ROWS * SEQ * DIM  # numbers, each float32
SCHEDULES = {
    "circular": Circular.default_config(),
    "two rounds": Circular.Config(num_repeats=2),
    "1f1b": OneForwardOneBackward.default_config(),
}


class Layer(SequenceLayer):
    """tanh(x w)."""

    def __init__(self, config: SequenceLayer.Config, **place: Any):
        super().__init__(config, **place)
        dim = self.config.input_dim
        self.linear: Linear = self.add_child("linear", Linear.Config(input_dim=dim, output_dim=dim))

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        return jnp.tanh(self.linear.forward(x))


class Collective(NamedTuple):
    kind: str
    shapes: list[tuple[int, ...]]
    pairs: int  # of a permute, who sends to whom


@cache
def collectives(schedule: str) -> list[Collective]:
    """Returns the collectives of a compiled gradient; those of loops once."""
    stack = Pipeline.Config(
        layer=Layer.default_config(),
        num_layers=16,
        num_stages=STAGES,
        num_microbatches=MICROBATCHES,
        schedule=SCHEDULES[schedule],
    )
    model = CausalLM.Config(vocab_size=256, dim=DIM, stack=stack).instantiate()
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    placement = Placement(make_mesh({"pipeline": STAGES}, topology.devices), DEFAULT_RULES)
    specs = model.parameter_specs()
    params = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        map_specs(ParameterSpec.struct, specs),
        parameter_shardings(specs, placement.mesh, placement.rules),
    )

    def of_batch(dtype: Any) -> jax.ShapeDtypeStruct:
        shape = (ROWS * MICROBATCHES, SEQ)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=placement.batch(2))

    batch = {"input_ids": of_batch(jnp.int32), "target_ids": of_batch(jnp.int32)}
    batch["target_weights"] = of_batch(jnp.float32)

    def loss(params: Any, batch: Any) -> jax.Array:
        return functional(model, state=params, prng_key=None, inputs=(batch,), is_training=True)[
            0
        ].total

    with placing(placement):
        compiled = jax.jit(jax.grad(loss)).lower(params, batch).compile()
    return parsed(compiled.as_text())


def parsed(text: str) -> list[Collective]:
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    found = []
    for line in text.splitlines():
        if match := re.search(rf"= (.*?) ({kinds})(-start)?\(", line):
            shapes = re.findall(r"f32\[([\d,]*)\]", match[1])
            shapes = shapes[:1] if match[3] else shapes  # asynchronous ones list operands too
            pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", line)
            count = pairs[1].count("{") if pairs else 0
            sizes = [tuple(map(int, filter(None, shape.split(",")))) for shape in shapes]
            found.append(Collective(match[2], sizes, count))
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_stages_send_one_microbatch_forwards_and_one_backwards_in_a_tick(schedule: str) -> None:
    permutes = [each for each in collectives(schedule) if each.kind == "collective-permute"]
    assert {shape for each in permutes for shape in each.shapes} == {(1, ROWS, SEQ, DIM)}
    # 1F1B has a loop that only goes forwards, one that does both, and one that only goes back.
    loops = 4 if schedule == "1f1b" else 2
    assert sum(each.pairs for each in permutes) == loops * STAGES


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_parameter_of_a_stage_is_sent_anywhere(schedule: str) -> None:
    others = [each for each in collectives(schedule) if each.kind != "collective-permute"]
    assert {each.kind for each in others} == {"all-reduce"}
    # What the last stage gives to all, and the first one's gradient.
    shapes = {shape for each in others for shape in each.shapes}
    one, all_ = (ROWS, SEQ, DIM), (MICROBATCHES, ROWS, SEQ, DIM)
    assert shapes == {one if schedule == "1f1b" else all_}
