"""config.json into our config and back; that models compute the same is shown in tests/parity."""

import math

import pytest

from axlearn_core.config import replace, to_text
from axlearn_huggingface.configs import recognise
from axlearn_huggingface.families import DEEPSEEK_V3, FAMILIES, GEMMA3, LLAMA, MISTRAL, QWEN2
from axlearn_huggingface.importing import family_of
from axlearn_huggingface.weights import WeightsError
from axlearn_layers import (
    DynamicNTKFrequencies,
    LayerList,
    LinearFrequencies,
    Llama3Frequencies,
    LoRA,
    Projection,
    Remat,
    YarnFrequencies,
)
from axlearn_layers.families import llama, phi3

SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
OURS = {
    "vocab_size": 24,
    "dim": 16,
    "hidden_dim": 24,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 4,
}

SCALINGS = {
    "linear": ({"factor": 4.0}, LinearFrequencies.Config(factor=4.0)),
    "dynamic": (
        {"factor": 4.0},
        DynamicNTKFrequencies.Config(factor=4.0, original_length=64),
    ),
    "llama3": (
        {
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 3.0,
            "original_max_position_embeddings": 16,
        },
        Llama3Frequencies.Config(factor=4.0, low_turns=1.0, high_turns=3.0, original_length=16),
    ),
    "yarn": (
        {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 20.0},
        YarnFrequencies.Config(factor=4.0, original_length=16, fast_turns=20.0),
    ),
}


def frequencies(cfg):
    return to_text(cfg.stack.layer.attention.qkv.frequencies)


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("key", ["type", "rope_type", "rope_parameters"])
def test_stretched_wavelengths_are_read_in_all_spellings(name, key):
    scaling, expected = SCALINGS[name]
    old = {"rope_theta": 7.0, "rope_scaling": {key: name, **scaling}}
    new = {"rope_parameters": {"rope_theta": 7.0, "rope_type": name, **scaling}}
    cfg = LLAMA.model(SIZES | (new if key == "rope_parameters" else old))
    assert cfg.stack.layer.attention.qkv.theta == 7.0
    assert frequencies(cfg) == to_text(expected)


@pytest.mark.parametrize("name", SCALINGS)
def test_stretched_wavelengths_are_written_in_both_spellings(name):
    _, frequencies = SCALINGS[name]
    written = LLAMA.config_json(llama(**OURS, theta=7.0, frequencies=frequencies))
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 7.0
    assert written["rope_scaling"]["rope_type"] == written["rope_parameters"]["rope_type"] == name


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        (LLAMA, "attention_bias", True),
        (LLAMA, "mlp_bias", True),
        (LLAMA, "hidden_act", "gelu"),
        (LLAMA, "quantization_config", {"quant_method": "awq"}),
        (LLAMA, "rope_scaling", {"type": "longrope", "factor": 2.0}),
        (LLAMA, "rope_scaling", {"type": "linear", "factor": 2.0, "mrope_section": [1]}),
        (LLAMA, "some_new_norm", True),
        (QWEN2, "use_sliding_window", True),
        (QWEN2, "layer_types", ["full_attention", "sliding_attention"]),
        (QWEN2, "head_dim", 8),
        (GEMMA3, "attn_logit_softcapping", 50.0),
        (GEMMA3, "layer_types", ["full_attention", "sliding_attention"]),
    ],
)
def test_a_setting_that_our_layers_do_not_compute_is_refused_by_name(family, field, value):
    sizes = SIZES if family is LLAMA else SIZES | {"sliding_window": 8}
    with pytest.raises(WeightsError, match=field):
        family.model(sizes | {field: value})


def test_a_setting_that_is_off_or_ignored_is_not():
    config = SIZES | {"some_new_norm": False, "other": 3}
    assert to_text(LLAMA.model(config, ignore=["other"])) == to_text(LLAMA.model(SIZES))


def test_a_field_that_is_missing_is_named():
    with pytest.raises(WeightsError, match="lacks hidden_size"):
        LLAMA.model({name: value for name, value in SIZES.items() if name != "hidden_size"})


def test_an_architecture_that_is_none_of_ours_lists_ours():
    with pytest.raises(WeightsError, match=r"LlamaForCausalLM \(llama\)"):
        family_of({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"})


def test_a_model_is_recognised_however_its_layers_are_arranged_and_trained():
    cfg = llama(**OURS)
    layer = cfg.stack.layer.clone()
    layer.dropout.rate = 0.1
    cfg.stack = LayerList.default_config().set(layers=[layer] * 2, remat=Remat.default_config())
    found = recognise(FAMILIES, cfg)
    assert (found.family, found.others) == (LLAMA, ["mistral", "phi3"])
    assert recognise(FAMILIES, cfg, "phi3").family.model_type == "phi3"


def test_windows_make_a_mistral_and_fractions_a_phi():
    assert recognise(FAMILIES, llama(**OURS, window=8)).family is MISTRAL
    assert recognise(FAMILIES, phi3(**OURS, rotary_fraction=0.5)).config[
        "partial_rotary_factor"
    ] == pytest.approx(0.5)


def test_a_model_of_no_family_is_told_in_what_the_nearest_differs():
    with pytest.raises(WeightsError, match=r"From llama, .*\n +embedding\.scale: 4\.0, there null"):
        recognise(FAMILIES, llama(**OURS, embedding_scale=4.0))


def test_adapters_are_seen_through():
    cfg = llama(**OURS)
    replace(cfg.stack, Projection, lambda old: LoRA.default_config().set(inner=old))
    assert recognise(FAMILIES, cfg).family is LLAMA


def test_the_scale_of_latent_attention_is_both_that_of_yarn_and_of_the_heads():
    config = SIZES | {
        "architectures": ["DeepseekV3ForCausalLM"],
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 6,
        "qk_rope_head_dim": 2,
        "v_head_dim": 4,
        "rope_scaling": {
            "type": "yarn",
            "factor": 40,
            "original_max_position_embeddings": 4,
            "mscale": 0.5,
            "mscale_all_dim": 0.7,
        },
    }
    cfg = DEEPSEEK_V3.model(config)
    attention = cfg.stack.layers[0].layer.attention
    assert attention.scale == pytest.approx(8**-0.5 * (0.07 * math.log(40) + 1) ** 2)
    written = DEEPSEEK_V3.config_json(cfg)["rope_parameters"]
    assert (written["mscale"], written["mscale_all_dim"]) == pytest.approx((0.5, 0.7))
