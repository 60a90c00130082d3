"""`axl plan` for GPUs that are not there: the real step, from the command line to the figures."""

from __future__ import annotations

import json

import pytest

from axlearn_core.cli.main import main

# text.markov with rows of 128 tokens, in two heads of 32, which cuDNN takes.
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

    # cuDNN's attention has two products, and makes the scores again in the three of its gradient.
    # One block of 128 x 128 is all of them.
    product = 2 * ROWS * HEADS * LENGTH * LENGTH * HEAD
    flops = 6 * ROWS * LENGTH * MATRICES + LAYERS * (2 + 5) * product
    assert plan["flops"] == pytest.approx(flops / 8, rel=1e-3)
    assert not [note for note in plan["notes"] if "lack" in note]

    axes = {(each["kind"], tuple(each["axes"])) for each in plan["traffic"]}
    assert {("all-gather", ("fsdp",)), ("all-reduce", ("data",))} <= axes
    assert plan["step_seconds"]["low"] < plan["step_seconds"]["high"]


def test_what_is_more_than_the_gpus_memory_says_by_how_much_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*SMALL, "input.batch_size=4194304", "--hardware", "gpu-h100-8"]
    assert main(["plan", *words]) == 0
    text = capsys.readouterr().out
    assert "compiled in" in text  # XLA refuses nothing for a GPU
    assert "of 72 GiB: does not fit, " in text and " too much" in text
    assert "try: accumulation=2" in text
