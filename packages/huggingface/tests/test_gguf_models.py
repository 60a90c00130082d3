"""Which models GGUF is written of, and how their tensors are arranged there."""

from functools import partial

import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_huggingface.gguf_export.layout import split_latents, stack_experts
from axlearn_huggingface.gguf_export.models import gguf_model
from axlearn_huggingface.weights import LazyTensors


def lazy(arrays):
    loaders = {name: partial(arrays.get, name) for name in arrays}
    return LazyTensors(loaders, {name: array.shape for name, array in arrays.items()})


@pytest.mark.parametrize(
    ("model_type", "config", "why"),
    [
        ("bert", {}, "GGUF is written of llama, .* and not of bert"),
        ("mistral", {"sliding_window": 7}, "--max-length 7"),
        ("phi3", {"sliding_window": 7, "max_position_embeddings": 8}, "sliding_window=7"),
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob must be true"),
        (
            "deepseek_v3",
            {"rope_scaling": {"rope_type": "yarn", "mscale": 1.0, "mscale_all_dim": 0.5}},
            "mscale must be mscale_all_dim",
        ),
        ("olmo2", {"rope_scaling": {"rope_type": "llama3"}}, "rope_type='llama3' is not among"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "truncate": False}}, "truncate"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(model_type, config, why):
    with pytest.raises(UserError, match=why):
        gguf_model(model_type, config)


def test_a_window_that_no_text_exceeds_is_none():
    config = {"sliding_window": 7, "max_position_embeddings": 7}
    assert gguf_model("mistral", config).architecture == "llama"


def test_experts_of_a_layer_are_one_tensor_in_their_order():
    rng = np.random.default_rng(0)
    experts = {f"layers.1.experts.{i}.up.weight": rng.normal(size=(3, 2)) for i in range(11)}
    found = stack_experts(lazy({**experts, "norm.weight": np.ones(3)}), {})
    assert found.shapes == {"layers.1.experts.up.weight": (11, 3, 2), "norm.weight": (3,)}
    np.testing.assert_array_equal(
        found["layers.1.experts.up.weight"], np.array(list(experts.values()))
    )


def test_scores_and_values_of_latents_are_those_of_keys_and_values():
    heads, content, value, rank = 3, 4, 2, 5
    config = {
        "num_attention_heads": heads,
        "qk_nope_head_dim": content,
        "v_head_dim": value,
        "kv_lora_rank": rank,
    }
    rng = np.random.default_rng(0)
    name = "model.layers.0.self_attn.{}.weight"
    up = rng.normal(size=(heads * (content + value), rank))
    latent, query = rng.normal(size=rank), rng.normal(size=(heads, content))
    both = (up @ latent).reshape(heads, content + value)
    found = split_latents(lazy({name.format("kv_b_proj"): up}), config)
    keys, values = found[name.format("k_b_proj")], found[name.format("v_b_proj")]
    assert [keys.shape, values.shape] == list(found.shapes.values())
    scores = np.einsum("hrc,hc,r->h", keys, query, latent)
    np.testing.assert_allclose(scores, (query * both[:, :content]).sum(-1))
    np.testing.assert_allclose(np.einsum("hvr,r->hv", values, latent), both[:, content:])
