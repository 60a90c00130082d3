"""`axl plan` for TPUs that are not there: the real step, from the command line to the figures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from axlearn_core.cli.main import main

# text.markov with rows of 128 tokens, which splash attention takes, in two heads of 32.
SMALL = (
    "text.markov",
    "input.seq_len=128",
    "model.stack.layer.attention.num_heads=2",
    "model.stack.layer.attention.num_kv_heads=2",
    "compute_dtype=bfloat16",
    'mesh_shape={"fsdp": 4, "model": 2}',
)
LAYERS, DIM, HEADS, HEAD, HIDDEN, VOCABULARY = 2, 64, 2, 32, 128, 64
ROWS, LENGTH = 8, 128
MATRICES = LAYERS * (4 * DIM * HEADS * HEAD + 3 * DIM * HIDDEN) + VOCABULARY * DIM
PARAMETERS = MATRICES + DIM * VOCABULARY + (2 * LAYERS + 1) * DIM  # and embeddings, and norms


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["plan", *SMALL, *words, "--hardware", "tpu-v5e-8", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_small_experiment_is_compiled_and_fits(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys)
    assert plan["method"] == "compiled"
    assert plan["mesh_shape"] == {"fsdp": 4, "model": 2}
    assert plan["fits"]

    memory = plan["memory"]
    assert memory["limit"] == pytest.approx(15.75 * 2**30, rel=0.01)
    assert plan["parameter_count"] == PARAMETERS
    assert 4 * PARAMETERS / 8 <= memory["parameters"] < 4 * PARAMETERS / 3  # "embed" over fsdp
    assert memory["optimizer"] == pytest.approx(2 * memory["parameters"], rel=0.01)
    # Of each layer at least its input and what lies between its branches, in bfloat16.
    assert memory["activations"] > 2 * LAYERS * 2 * (ROWS * LENGTH / 4) * DIM

    # Splash attention makes scores again in each of its two backward programs: 2 + 3 + 4 products.
    # One block of 128 x 128 is all of them.
    product = 2 * ROWS * HEADS * LENGTH * LENGTH * HEAD
    flops = 6 * ROWS * LENGTH * MATRICES + LAYERS * 9 * product
    assert plan["flops"] == pytest.approx(flops / 8, rel=1e-3)
    assert not [note for note in plan["notes"] if "lack" in note]

    axes = {tuple(each["axes"]) for each in plan["traffic"]}
    assert {("fsdp",), ("model",)} <= axes
    assert {each["network"] for each in plan["traffic"]} == {"fast"}
    assert plan["step_seconds"]["low"] < plan["step_seconds"]["high"]
    assert 0 < plan["mfu"]["low"] < plan["mfu"]["high"] < 1


def test_the_compilers_refusal_says_by_how_much_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*SMALL, "input.batch_size=1048576", "--hardware", "tpu-v5e-8"]
    assert main(["plan", *words]) == 0
    text = capsys.readouterr().out
    assert "does not fit, " in text and " too much" in text
    assert "note: the compiler refuses: memory is its figure" in text
    assert "try: accumulation=2" in text
    assert "--search --hardware tpu-v5e-8" in text


def test_a_search_confirms_the_fastest_plans_with_the_compiler(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--search", "--compile", "1", "--hardware", "tpu-v5e-4"]
    assert main(["plan", "text.markov", "model.stack.remat=null", *words]) == 0
    text = capsys.readouterr().out
    assert "compiled" in text and "mesh_shape=" in text
