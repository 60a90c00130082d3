"""What the compiler makes of the real training step, for TPUs that are not there.

The volumes are what one of n devices sends in a ring: (n - 1) / n of what an all-gather returns, a
reduce-scatter reads or an all-to-all exchanges, and twice that of an all-reduce.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import cache

import pytest
from jax.experimental import topologies

from axlearn_core.config import replace
from axlearn_core.plan.collectives import Collective
from axlearn_core.plan.reading import read_program
from axlearn_core.training import Trainer
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import CapacityDispatch, FeedForward, MixtureOfExperts, Remat
from axlearn_layers.families import llama

LAYERS, WIDTH, HEADS, HIDDEN, VOCABULARY = 16, 512, 4, 1024, 512
ROWS, LENGTH = 4, 256
BF16, FLOAT32 = 2, 4
# The matrices of one layer: queries, keys, values and output, gate, up and down.
LAYER = 4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN
TABLE = VOCABULARY * WIDTH

# Plain collectives that a reader can tell, and half the time to compile.
OPTIONS = {
    "xla_tpu_enable_async_collective_fusion": False,
    "exec_time_optimization_effort": -1.0,
}


def config(mesh: dict[str, int], experts: int) -> Trainer.Config:
    """Everything in a layer is made again but what it reads, and what lies between its branches."""
    model = llama(
        vocab_size=VOCABULARY,
        dim=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        num_kv_heads=HEADS,
        hidden_dim=HIDDEN,
    )
    if experts:
        mixture = MixtureOfExperts.default_config().set(num_experts=experts, top_k=2)
        mixture.dispatch = CapacityDispatch.default_config().set(factor=1.0)
        replace(model, FeedForward, mixture)
    model.stack.remat = Remat.default_config().set(offload="block_hidden")
    data = SyntheticInput.default_config().set(
        vocab_size=VOCABULARY, seq_len=LENGTH, batch_size=ROWS
    )
    cfg = trainer(model, data, peak_rate=1e-3, max_step=3)
    return cfg.set(
        compile_cache=None, compute_dtype="bfloat16", mesh_shape=mesh, offload_optimizer=True
    )


@cache
def compiled(experts: int = 0, **mesh: int) -> tuple[str, tuple[Collective, ...]]:
    """Returns the text of the step for four chips, and its collectives."""
    run: Trainer = config(mesh, experts).instantiate()
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    program = run.program(run.placement(topology.devices))
    lowered = program.lower_train_step(run.input.batch_shape())
    text = lowered.compile(compiler_options=OPTIONS).as_text()
    return text, read_program(text, program.placement.mesh).collectives


def sent(collectives: Iterable[Collective], *axes: str, kind: str | None = None) -> float:
    """Returns the bytes that a device sends over these axes."""
    chosen = (c for c in collectives if c.axes == axes and kind in (None, c.kind))
    return sum(c.bytes for c in chosen)


def in_layers(collectives: Iterable[Collective]) -> list[Collective]:
    return [c for c in collectives if c.loops and c.count >= LAYERS]


# Data parallelism and FSDP, two by two.


def test_fsdp_gathers_a_layers_parameters_twice_and_scatters_its_gradient_once() -> None:
    _, collectives = compiled(data=2, fsdp=2)
    layers = in_layers(collectives)
    parameters = LAYERS * LAYER * BF16 / 2
    gathered = sent(layers, "fsdp", kind="all-gather")
    assert gathered == pytest.approx(2 * parameters, rel=0.02)  # forward, and to make it again
    assert sent(layers, "fsdp", kind="reduce-scatter") == pytest.approx(parameters, rel=0.02)
    assert sent(layers, "fsdp", kind="all-reduce") < 0.01 * parameters


def test_no_parameters_of_several_layers_are_gathered() -> None:
    _, collectives = compiled(data=2, fsdp=2)
    most = max(math.prod(x.dims) for c in collectives for x in c.operands)
    assert most < LAYER


def test_the_volumes_of_data_and_fsdp_are_those_of_theory() -> None:
    _, collectives = compiled(data=2, fsdp=2)
    layers = LAYERS * LAYER * BF16 / 2
    # The output head is gathered once, and its gradient exchanged in float32.
    head = TABLE * (BF16 + FLOAT32) / 2
    # Each device looks up half of its and its neighbour's vectors, and exchanges them.
    lookup = 2 * (ROWS / 4 * LENGTH * WIDTH) * BF16 / 2
    assert sent(collectives, "fsdp") == pytest.approx(3 * layers + head + lookup, rel=0.1)
    # Of gradients that are scattered already, and of both tables.
    gradients = 2 * (LAYERS * LAYER * BF16 + TABLE * (BF16 + FLOAT32)) / 2 / 2
    assert sent(collectives, "data") == pytest.approx(gradients, rel=0.1)


# FSDP and tensor parallelism, two by two.

ACTIVATION = ROWS / 2 * LENGTH * WIDTH * BF16


def test_tensor_parallelism_gathers_and_scatters_tokens_and_reduces_none_in_a_layer() -> None:
    _, collectives = compiled(fsdp=2, model=2)
    layers = in_layers(collectives)
    # Where a branch begins: forward, again, and its end in the backward pass.
    gathers = sent(layers, "model", kind="all-gather") / (LAYERS * ACTIVATION / 2)
    assert gathers == pytest.approx(6, rel=0.02)
    # Where a branch ends: forward, and its beginning in the backward pass.
    scatters = sent(layers, "model", kind="reduce-scatter") / (LAYERS * ACTIVATION / 2)
    assert scatters == pytest.approx(4, rel=0.02)
    assert sent(layers, "model", kind="all-reduce") < 0.01 * LAYERS * ACTIVATION


def test_the_volumes_of_fsdp_and_model_are_those_of_theory() -> None:
    _, collectives = compiled(fsdp=2, model=2)
    layers = LAYERS * LAYER * BF16 / 2 / 2
    head = TABLE * (BF16 + FLOAT32) / 2 / 2
    lookup = 2 * ACTIVATION / 2 / 2
    assert sent(collectives, "fsdp") == pytest.approx(3 * layers + head + lookup, rel=0.1)
    # The loss gathers tokens, and sums their gradient.
    ends = 3 * ACTIVATION / 2
    assert sent(collectives, "model") == pytest.approx(10 * LAYERS * ACTIVATION / 2 + ends, rel=0.1)


# Experts.


def test_tokens_go_to_their_experts_and_back_by_all_to_all() -> None:
    _, collectives = compiled(experts=4, expert=4)
    layers = in_layers(collectives)
    # Each token takes two places; there and back, forward, again and in the backward pass.
    exchanged = 6 * LAYERS * 2 * (ROWS / 4 * LENGTH * WIDTH) * BF16 * 3 / 4
    assert sent(layers, "expert", kind="all-to-all") == pytest.approx(exchanged, rel=0.02)
    assert sent(layers, "expert", kind="all-gather") < 0.02 * exchanged
    # For all else the axis is one of rows: gradients of attention, which every device has.
    attention = 2 * LAYERS * 4 * WIDTH * WIDTH * BF16 * 3 / 4
    assert sent(layers, "expert", kind="all-reduce") == pytest.approx(attention, rel=0.1)


# Host memory.


def test_the_optimizers_state_and_offloaded_activations_are_in_host_memory() -> None:
    text, _ = compiled(fsdp=2, model=2)
    entry = text[text.index("ENTRY") :]
    moment = rf"f32\[{LAYERS},{WIDTH // 2},2,{HIDDEN // 2}\]{{[^}}]*S\(5\)}} parameter"
    assert len(re.findall(moment, entry)) == 2  # both moments of the gates and ups
    kept = rf"bf16\[{LAYERS},{ROWS // 2},{LENGTH // 2},{WIDTH}\]{{[^}}]*S\(5\)}}"
    assert re.search(kept, text)
