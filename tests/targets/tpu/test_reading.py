"""What libtpu emits is read: reduce-scatters within fusions, gathers spread over several."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from axlearn_core.plan import ProgramReading, read_program

LAYERS, WIDTH, HIDDEN, ROWS, LENGTH = 6, 512, 2048, 16, 128


@pytest.fixture(scope="module")
def reading() -> ProgramReading:
    """The gradient of scanned, rematerialised layers: parameters over fsdp and model."""
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    mesh = Mesh(np.array(topology.devices).reshape(4, 2), ("fsdp", "model"))

    def struct(*shape: int, spec: tuple[Any, ...]) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        def layer(x: jax.Array, w: dict[str, jax.Array]) -> tuple[jax.Array, None]:
            into, out = w["into"].astype(jnp.bfloat16), w["out"].astype(jnp.bfloat16)
            x = x + jax.nn.gelu(x @ into) @ out
            spec = NamedSharding(mesh, PartitionSpec("fsdp", None, None))
            return jax.lax.with_sharding_constraint(x, spec), None

        x, _ = jax.lax.scan(jax.checkpoint(layer), x.astype(jnp.bfloat16), params)
        return jnp.square(x.astype(jnp.float32)).mean()

    params = {
        "into": struct(LAYERS, WIDTH, HIDDEN, spec=(None, "fsdp", "model")),
        "out": struct(LAYERS, HIDDEN, WIDTH, spec=(None, "model", "fsdp")),
    }
    shardings = jax.tree.map(lambda x: x.sharding, params)
    rows = struct(ROWS, LENGTH, WIDTH, spec=("fsdp",))
    step = jax.jit(jax.grad(loss), out_shardings=shardings)
    return read_program(step.lower(params, rows).compile().as_text(), mesh)


def test_all_layers_count(reading: ProgramReading) -> None:
    # Two products forward, one of them again in the backward pass, and four backward.
    product = 2 * ROWS * LENGTH * WIDTH * HIDDEN / 8
    assert reading.flops == 7 * product * LAYERS
    assert reading.unknown_loops == ()


def test_parameters_are_gathered_twice_a_layer_in_bfloat16(reading: ProgramReading) -> None:
    gathered = sum(c.bytes for c in reading.collectives if c.kind == "all-gather" and c.loops)
    layer = 2 * 2 * WIDTH * HIDDEN / 2  # the two matrices' halves on "model", in bfloat16
    assert gathered == pytest.approx(2 * LAYERS * layer * 3 / 4, rel=0.01)


def test_gradients_are_scattered_within_fusions(reading: ProgramReading) -> None:
    scattered = [c for c in reading.collectives if c.kind == "reduce-scatter"]
    assert scattered
    assert all(c.axes == ("fsdp",) and c.loops for c in scattered)
