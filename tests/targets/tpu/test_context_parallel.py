"""What a TPU's compiler makes of attention over a split sequence."""

from __future__ import annotations

import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from axlearn_core.kernels import attention, causal
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, placing

DEVICES, LENGTH, HEADS, KV_HEADS, DIM = 4, 512, 8, 4, 128
BYTES = {"bf16": 2, "f32": 4}
COLLECTIVE = re.compile(
    r"= (?P<shape>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)"
    r"(?P<start>-start)?\("
)


def compiled(method: str) -> str:
    """Compiles the output and all gradients of causal attention for 4 chips of a TPU v5e."""
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    placement = Placement(make_mesh({"seq": DEVICES}, topology.devices), DEFAULT_RULES)
    place = NamedSharding(placement.mesh, PartitionSpec(None, "seq"))
    query, key, value, weights = (
        jax.ShapeDtypeStruct((1, LENGTH, heads, DIM), jnp.bfloat16, sharding=place)
        for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)
    )

    def loss(query, key, value, weights):
        output = attention(query, key, value, mask=causal(), implementation=method)
        return jnp.sum(output * weights), output

    with placing(placement):
        gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        return gradients.lower(query, key, value, weights).compile().as_text()


def sent_bytes(program: str, turns: int) -> Counter[str]:
    """Adds up what collectives of vectors give each device; loops have so many turns."""
    loops = set(re.findall(r"body=%?([\w.-]+)", program))
    total: Counter[str] = Counter()
    computation = ""
    for line in program.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            computation = line.removeprefix("ENTRY ").split()[0].lstrip("%")
        found = COLLECTIVE.search(line)
        if not found:
            continue
        arrays = re.findall(r"(bf16|f32)\[([\d,]+)\]", found["shape"])
        if found["start"]:  # its shape is (what is sent, what is received, ...)
            arrays = arrays[: len(arrays) // 2]
        for dtype, sizes in arrays:
            count = 1
            for size in map(int, sizes.split(",")):
                count *= size
            total[found["kind"]] += count * BYTES[dtype] * (turns if computation in loops else 1)
    return total


def test_a_ring_sends_keys_and_their_gradients_from_device_to_device() -> None:
    n, part = DEVICES, LENGTH // DEVICES
    keys = part * 2 * KV_HEADS * DIM
    # Forward, backward and the gradients' way home; the first hop's keys are kept for the backward.
    narrow = (2 * (n - 1) - 1 + 1) * keys
    balance = 2 * part * (2 * HEADS + 2 * KV_HEADS) * DIM
    theory = 2 * (narrow + balance) + 4 * (n - 1) * keys
    sent = sent_bytes(compiled("ring"), turns=n - 2)  # the first and the last turn are no loop
    assert sent["collective-permute"] == pytest.approx(theory, rel=0.1)
    assert set(sent) == {"collective-permute"}


def test_heads_are_exchanged_all_to_all() -> None:
    theory = 2 * 2 * LENGTH // DEVICES * (2 * HEADS + 2 * KV_HEADS) * DIM  # with what stays
    sent = sent_bytes(compiled("all_to_all"), turns=1)
    assert sent["all-to-all"] == pytest.approx(theory, rel=0.1)
    assert set(sent) == {"all-to-all"}
