"""The families in published sizes. That they compute the same is shown in tests/parity."""

import pytest

from axlearn_core.module import parameter_count
from axlearn_layers import families

# What transformers counts for its config of the same sizes.
PUBLISHED = {
    "GPT-2": (families.gpt2(dim=768, num_layers=12, num_heads=12), 124_439_808),
    "Llama 3.1 8B": (
        families.llama(
            vocab_size=128_256,
            dim=4096,
            num_layers=32,
            num_heads=32,
            num_kv_heads=8,
            hidden_dim=14_336,
        ),
        8_030_261_248,
    ),
    "Mixtral 8x7B": (
        families.mixtral(
            vocab_size=32_000,
            dim=4096,
            num_layers=32,
            num_heads=32,
            num_kv_heads=8,
            hidden_dim=14_336,
        ),
        46_702_792_704,
    ),
    "Qwen2.5 0.5B": (
        families.qwen2(
            vocab_size=151_936,
            dim=896,
            num_layers=24,
            num_heads=14,
            num_kv_heads=2,
            hidden_dim=4864,
            tied=True,
        ),
        494_032_768,
    ),
    "Qwen3 0.6B": (
        families.qwen3(
            vocab_size=151_936,
            dim=1024,
            num_layers=28,
            num_heads=16,
            num_kv_heads=8,
            hidden_dim=3072,
            tied=True,
        ),
        596_049_920,
    ),
    "Qwen3 30B A3B": (
        families.qwen3_moe(
            vocab_size=151_936,
            dim=2048,
            num_layers=48,
            num_heads=32,
            num_kv_heads=4,
            hidden_dim=768,
        ),
        30_532_122_624,
    ),
    "Gemma 2 2B": (
        families.gemma2(
            vocab_size=256_000,
            dim=2304,
            num_layers=26,
            num_heads=8,
            num_kv_heads=4,
            hidden_dim=9216,
        ),
        2_614_341_888,
    ),
    "Gemma 3 1B": (
        families.gemma3(
            vocab_size=262_144,
            dim=1152,
            num_layers=26,
            num_heads=4,
            num_kv_heads=1,
            hidden_dim=6912,
        ),
        999_885_952,
    ),
    "OLMo 2 7B": (
        families.olmo2(
            vocab_size=100_352,
            dim=4096,
            num_layers=32,
            num_heads=32,
            num_kv_heads=32,
            hidden_dim=11_008,
        ),
        7_298_617_344,
    ),
    "Phi-3-mini": (
        families.phi3(
            vocab_size=32_064,
            dim=3072,
            num_layers=32,
            num_heads=32,
            num_kv_heads=32,
            hidden_dim=8192,
        ),
        3_821_079_552,
    ),
    "Mamba-2 2.7B": (
        families.mamba2(vocab_size=50_288, dim=2560, num_layers=64),
        2_702_599_680,
    ),
}


@pytest.mark.parametrize(("config", "count"), PUBLISHED.values(), ids=PUBLISHED.keys())
def test_a_published_size_has_as_many_parameters(config, count):
    assert parameter_count(config.instantiate().parameter_specs()) == count
