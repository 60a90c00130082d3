"""`axl plan` for GPUs that are not there: the real step, from the command line to the figures."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from axlearn_core.cli.main import main
from axlearn_core.kernels import attention, causal, recording_choices
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, placing
from axlearn_core.plan import read_program
from axlearn_core.plan.kernels import flops_of_kernels

# text.markov with rows of 128 tokens, in two heads of 32; rows are packed, which cuDNN refuses.
SMALL = (
    "text.markov",
    "input.seq_len=128",
    "model.stack.layer.attention.num_heads=2",
    "model.stack.layer.attention.num_kv_heads=2",
    "compute_dtype=bfloat16",
)
LAYERS, DIM, HEADS, HEAD, HIDDEN, VOCABULARY = 2, 64, 2, 32, 128, 64
ROWS, LENGTH = 8, 128
MATRICES = LAYERS * (4 * DIM * HEADS * HEAD + 3 * DIM * HIDDEN) + VOCABULARY * DIM


def test_a_small_experiment_is_compiled_and_fits(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, 'mesh_shape={"data": 2, "fsdp": 4}', "--hardware", "gpu-h100-8", "--json"]
    assert main(["plan", *words]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["method"] == "compiled"
    assert plan["mesh_shape"] == {"data": 2, "fsdp": 4}
    assert plan["fits"] and plan["memory"]["limit"] == 72 * 2**30
    assert plan["memory"]["optimizer"] == pytest.approx(2 * plan["memory"]["parameters"], rel=0.01)
    assert plan["memory"]["activations"] > 0

    # The Triton kernel makes scores again in each of its two backward programs: 2 + 3 + 4 products.
    # Of the four blocks of 64 x 64, the mask rules one out.
    product = 2 * ROWS * HEADS * LENGTH * LENGTH * HEAD * 3 / 4
    flops = 6 * ROWS * LENGTH * MATRICES + LAYERS * 9 * product
    assert plan["flops"] == pytest.approx(flops / 8, rel=1e-3)
    assert not [note for note in plan["notes"] if "lack" in note]

    axes = {(each["kind"], tuple(each["axes"])) for each in plan["traffic"]}
    assert {("all-gather", ("fsdp",)), ("all-reduce", ("data",))} <= axes
    assert plan["step_seconds"]["low"] < plan["step_seconds"]["high"]


def test_products_of_cudnn_are_counted(h100s: Any) -> None:
    placement = Placement(make_mesh({}, h100s[:1]), DEFAULT_RULES)
    shape = (2, 256, 4, 64)
    x = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=placement.sharding())

    def total(x: jax.Array) -> jax.Array:
        return attention(x, x, x, mask=causal()).astype(jnp.float32).sum()

    with placing(placement), recording_choices() as choices:
        compiled = jax.jit(jax.value_and_grad(total)).lower(x).compile()
    reading = read_program(compiled.as_text(), placement.mesh, flops_of_kernels(choices))
    # Two forward, and with the scores again five backward, of three of four blocks of 128 x 128.
    assert reading.flops == (2 + 5) * 2 * 2 * 4 * (3 * 128 * 128) * 64
    assert reading.uncounted_kernels == ()


def test_what_is_more_than_the_gpus_memory_says_by_how_much_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*SMALL, "input.batch_size=4194304", "--hardware", "gpu-h100-8"]
    assert main(["plan", *words]) == 0
    text = capsys.readouterr().out
    assert "compiled in" in text  # XLA refuses nothing for a GPU
    assert "of 72 GiB: does not fit, " in text and " too much" in text
    assert "try: accumulation=2" in text
