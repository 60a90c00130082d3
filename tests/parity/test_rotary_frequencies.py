"""Rotary frequencies and amplitudes equal those of transformers."""

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from axlearn_layers import (
    DynamicNTKFrequencies,
    LinearFrequencies,
    Llama3Frequencies,
    YarnFrequencies,
)

THETA, HEAD_DIM, ORIGINAL, LENGTH = 5e5, 64, 128, 512

OURS = {
    "linear": LinearFrequencies.Config(factor=4),
    "dynamic": DynamicNTKFrequencies.Config(factor=4, original_length=ORIGINAL),
    "llama3": Llama3Frequencies.Config(factor=4, original_length=ORIGINAL),
    "yarn": YarnFrequencies.Config(factor=4, original_length=ORIGINAL),
}
EXTRA = {
    "linear": {},
    "dynamic": {},
    "llama3": {
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
    "yarn": {"original_max_position_embeddings": ORIGINAL},
}


@pytest.mark.parametrize("name", OURS)
def test_frequencies_equal_those_of_transformers(name):
    theirs = LlamaConfig(
        hidden_size=2 * HEAD_DIM,
        num_attention_heads=2,
        max_position_embeddings=ORIGINAL if name == "dynamic" else LENGTH,
        rope_parameters={"rope_type": name, "rope_theta": THETA, "factor": 4.0, **EXTRA[name]},
    )
    expected, amplitude = ROPE_INIT_FUNCTIONS[name](theirs, "cpu", seq_len=LENGTH)
    ours = OURS[name].instantiate()
    found = ours(THETA, HEAD_DIM, np.arange(LENGTH)[None])
    np.testing.assert_allclose(np.asarray(found).reshape(-1), expected.numpy(), rtol=2e-6)
    assert ours.amplitude == pytest.approx(amplitude)
