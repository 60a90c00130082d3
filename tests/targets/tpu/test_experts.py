"""What the compiler emits for experts divided among TPUs: rows move, and little else."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from axlearn_core.module import functional, map_specs
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, parameter_shardings, placing
from axlearn_layers import MixtureOfExperts

DIM, HIDDEN, EXPERTS, TOP_K, BATCH, SEQ = 256, 640, 8, 2, 8, 256
COLLECTIVE = re.compile(
    r"= (\(?[^=]*?)\s(ragged-all-to-all|all-to-all|all-gather|all-reduce|reduce-scatter)"
    r"(?:-start)?\("
)


def collectives(mesh: dict[str, int]) -> list[tuple[str, int]]:
    """Returns kind and elements of the (largest) result of each collective in a gradient."""
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x2")
    placement = Placement(make_mesh(mesh, topology.devices), DEFAULT_RULES)
    cfg = MixtureOfExperts.default_config().set(input_dim=DIM, hidden_dim=HIDDEN)
    layer = cfg.set(num_experts=EXPERTS, top_k=TOP_K).instantiate(name="mixture")
    specs = layer.parameter_specs()
    state = jax.tree.map(
        lambda spec, sharding: jax.ShapeDtypeStruct(spec.shape, jnp.bfloat16, sharding=sharding),
        map_specs(lambda spec: spec.struct(), specs),
        parameter_shardings(specs, placement.mesh, placement.rules),
    )
    x = jax.ShapeDtypeStruct((BATCH, SEQ, DIM), jnp.bfloat16, sharding=placement.batch(3))

    def loss(state, x):
        y, _ = functional(layer, state=state, prng_key=None, inputs=(x,))
        return jnp.vdot(y, y)

    with placing(placement):
        text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(state, x).compile().as_text()
    return [(kind, elements(shapes)) for shapes, kind in COLLECTIVE.findall(text)]


def elements(shapes: str) -> int:
    return max(
        math.prod(map(int, filter(None, s.split(",")))) for s in re.findall(r"\[([\d,]*)\]", shapes)
    )


@pytest.fixture(scope="module")
def emitted() -> list[tuple[str, int]]:
    return collectives({"expert": 2, "fsdp": 2, "model": 2})


def test_rows_travel_twice_in_each_direction_by_ragged_all_to_all(emitted) -> None:
    own = BATCH * SEQ * TOP_K // 4 * DIM  # what a device's tokens have chosen
    exchanged = sorted(size for kind, size in emitted if kind == "ragged-all-to-all")
    assert exchanged == [own, own, 2 * own, 2 * own]  # back, and there, with room for all
    assert "all-to-all" not in dict(emitted)


def test_a_device_gathers_the_parts_of_its_own_experts_and_no_tokens(emitted) -> None:
    own_experts = EXPERTS // 2 * DIM * HIDDEN // 2
    gathered = sorted(size for kind, size in emitted if kind == "all-gather")
    assert gathered[-2:] == [own_experts, 2 * own_experts]  # down, and gate with up
    assert max([0, *gathered[:-2]]) <= DIM * EXPERTS  # the router


def test_parts_of_hidden_layers_are_added_once_per_token(emitted) -> None:
    tokens = BATCH * SEQ // 4 * DIM
    reduced = [size for kind, size in emitted if kind == "all-reduce"]
    assert reduced.count(tokens) == 2  # outputs, and gradients of inputs
