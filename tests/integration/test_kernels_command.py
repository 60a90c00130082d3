"""`axl kernels`, for machines that are not here, with every package's kernels."""

import json

import pytest

from axlearn_core.cli.main import main
from axlearn_core.testing.registries import isolated_registry


@pytest.fixture
def axl(capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")

    def axl(*words, code=0):
        assert main(["kernels", *words]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return axl


def described(axl, *words):
    found = json.loads(axl(*words, "--json"))
    chosen = {
        choice["op"]: candidate["name"].rpartition("/")[2]
        for choice in found["choices"]
        for candidate in choice["candidates"]
        if candidate["chosen"]
    }
    return found, chosen


@pytest.mark.parametrize(
    ("hardware", "attention"),
    [("cpu", "blocked"), ("gpu-h100-8", "triton"), ("tpu-v5p-8", "splash")],
)
def test_each_machine_has_kernels_of_its_own(axl, hardware, attention):
    _, chosen = described(axl, "text.llama-85m", "--hardware", hardware)
    assert chosen == {
        "attention": f"attention.{attention}",
        "norm": "norm.recomputed",
        "cross_entropy": "cross_entropy.chunked",
    }


def test_experts_multiply_ragged_rows(axl):
    words = ["published.qwen3-30b-a3b", "--hardware", "gpu-h100-64", "input.batch_size=64"]
    _, chosen = described(axl, *words)
    assert chosen["ragged_matmul"] == "ragged_matmul.triton"


def test_sizes_are_of_one_device_of_the_mesh(axl):
    words = ["text.llama-85m", "--hardware", "tpu-v5p-8", "input.batch_size=64"]
    found, _ = described(axl, *words)
    assert found["machine"] == "tpu-v5p-8" and found["mesh"] == {"fsdp": 8}
    (norms,) = [choice["specs"] for choice in found["choices"] if choice["op"] == "norm"]
    assert norms == ["norm(rms, 8192 vectors of 768, bfloat16, tpu)"]  # 64 rows / 8 x 1024 tokens


def test_every_kernel_is_listed_with_what_it_says(axl):
    text = axl("text.llama-85m", "model.**.attention.kernel=triton", "--hardware", "gpu-h100-1")
    lines = {words[0]: line for line in text.splitlines() if len(words := line.split()) > 2}
    assert lines["axlearn-hardware-gpu/attention.triton"].endswith("90  forced")
    assert "would need same_segment" in lines["axlearn-hardware-gpu/attention.cudnn"]
    assert "needs a tpu, this is gpu" in lines["axlearn-hardware-tpu/attention.splash"]
    assert lines["axlearn-core/attention.reference"].endswith("could, and was not asked")
    assert lines["axlearn-core/norm.reference"].endswith("its priority is lower")


def test_a_forced_kernel_that_refuses_says_why(axl):
    words = ["text.llama-85m", "model.**.attention.kernel=cudnn", "--hardware", "gpu-h100-1"]
    error = axl(*words, code=1)
    assert "the forced kernel does not support attention(" in error
    assert "attention.cudnn: would need same_segment" in error


@pytest.mark.parametrize(
    ("hardware", "words"),
    [
        ("gpu-h1000-8", "no chip 'h1000' for gpu (--hardware gpu-h1000-8). Did you mean 'h100'"),
        ("tpv-v5p-8", "Did you mean 'tpu'"),
        ("tpu-v5p-0", "Write one of tpu-v4-8"),
    ],
)
def test_unknown_hardware_is_answered_with_what_there_is(axl, hardware, words):
    assert words in axl("text.llama-85m", "--hardware", hardware, code=1)


def test_hardware_without_its_package_is_answered_with_the_package(axl):
    with isolated_registry():
        error = axl("text.llama-85m", "--hardware", "gpu-h100-8", code=1)
    assert "pip install axlearn-hardware-gpu" in error
