"""The decoder families compute what transformers computes with the same weights, in float32.

Nothing is at its default: other thetas and eps, several key and value heads, heads that are no
equal parts of the width, windows shorter than the sequences.
"""

import math

import jax
import numpy as np
import pytest
import torch
import transformers as hf

from axlearn_huggingface import families as weights
from axlearn_huggingface.weights import export_weights
from axlearn_layers import LinearFrequencies, Llama3Frequencies, YarnFrequencies
from axlearn_layers import families as ours

VOCAB, DIM, LAYERS, HEADS, KV_HEADS, HIDDEN = 101, 48, 3, 6, 2, 80
LENGTH = 33
OUR_SIZES = {
    "vocab_size": VOCAB,
    "dim": DIM,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "num_kv_heads": KV_HEADS,
    "hidden_dim": HIDDEN,
}
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": HIDDEN,
    "initializer_range": 0.2,  # large, so that attention is far from uniform
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


def rope(theta, **options):
    return {"rope_type": "default", "rope_theta": theta, **options}


def gpt2():
    return (
        ours.gpt2(vocab_size=VOCAB, dim=DIM, num_layers=LAYERS, num_heads=HEADS, max_length=64),
        hf.GPT2LMHeadModel,
        hf.GPT2Config(
            vocab_size=VOCAB,
            n_positions=64,
            n_embd=DIM,
            n_layer=LAYERS,
            n_head=HEADS,
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=None,
        ),
        weights.GPT2_WEIGHTS,
    )


def llama2():
    return (
        ours.llama(**OUR_SIZES, theta=500.0, eps=1e-3),
        hf.LlamaForCausalLM,
        hf.LlamaConfig(**SIZES, rope_parameters=rope(500.0), rms_norm_eps=1e-3),
        weights.LLAMA_WEIGHTS,
    )


def llama3():
    frequencies = Llama3Frequencies.Config(
        factor=4.0, low_turns=1.0, high_turns=3.0, original_length=16
    )
    scaling = {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 3.0,
        "original_max_position_embeddings": 16,
    }
    return (
        ours.llama(
            **OUR_SIZES, head_dim=12, theta=500.0, frequencies=frequencies, eps=1e-3, tied=True
        ),
        hf.LlamaForCausalLM,
        hf.LlamaConfig(
            **SIZES,
            head_dim=12,
            rope_parameters=rope(500.0, **scaling),
            rms_norm_eps=1e-3,
            tie_word_embeddings=True,
        ),
        weights.LLAMA_WEIGHTS,
    )


def mistral():
    return (
        ours.llama(**OUR_SIZES, head_dim=12, theta=500.0, window=7, eps=1e-3),
        hf.MistralForCausalLM,
        hf.MistralConfig(
            **SIZES,
            head_dim=12,
            sliding_window=7,
            rope_parameters=rope(500.0),
            rms_norm_eps=1e-3,
        ),
        weights.LLAMA_WEIGHTS,
    )


def mixtral():
    return (
        ours.mixtral(**OUR_SIZES, num_experts=5, top_k=2, theta=500.0, window=7, eps=1e-3),
        hf.MixtralForCausalLM,
        hf.MixtralConfig(
            **SIZES,
            num_local_experts=5,
            num_experts_per_tok=2,
            sliding_window=7,
            rope_parameters=rope(500.0),
            rms_norm_eps=1e-3,
        ),
        weights.MIXTRAL_WEIGHTS,
    )


def qwen2():
    return (
        ours.qwen2(**OUR_SIZES, theta=500.0, eps=1e-3, tied=True),
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config(
            **SIZES, rope_parameters=rope(500.0), rms_norm_eps=1e-3, tie_word_embeddings=True
        ),
        weights.QWEN2_WEIGHTS,
    )


def qwen3():
    return (
        ours.qwen3(**OUR_SIZES, head_dim=12, theta=500.0, eps=1e-3),
        hf.Qwen3ForCausalLM,
        hf.Qwen3Config(**SIZES, head_dim=12, rope_parameters=rope(500.0), rms_norm_eps=1e-3),
        weights.QWEN3_WEIGHTS,
    )


def qwen3_moe():
    return (
        ours.qwen3_moe(
            **OUR_SIZES | {"hidden_dim": 20},
            num_experts=6,
            top_k=3,
            head_dim=12,
            theta=500.0,
            eps=1e-3,
        ),
        hf.Qwen3MoeForCausalLM,
        hf.Qwen3MoeConfig(
            **SIZES,
            moe_intermediate_size=20,
            num_experts=6,
            num_experts_per_tok=3,
            norm_topk_prob=True,
            head_dim=12,
            rope_parameters=rope(500.0),
            rms_norm_eps=1e-3,
        ),
        weights.QWEN3_MOE_WEIGHTS,
    )


def gemma2():
    return (
        ours.gemma2(
            **OUR_SIZES,
            head_dim=12,
            score_dim=20,
            theta=500.0,
            window=7,
            attention_cap=3.0,
            logit_cap=4.0,
            eps=1e-3,
        ),
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config(
            **SIZES,
            head_dim=12,
            query_pre_attn_scalar=20,
            rope_parameters=rope(500.0),
            sliding_window=7,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=4.0,
            rms_norm_eps=1e-3,
        ),
        weights.GEMMA2_WEIGHTS,
    )


def gemma3():
    layers = 7  # more than one period
    return (
        ours.gemma3(
            **OUR_SIZES | {"num_layers": layers},
            head_dim=12,
            score_dim=20,
            theta=5000.0,
            frequencies=LinearFrequencies.Config(factor=8.0),
            local_theta=50.0,
            window=7,
            eps=1e-3,
        ),
        hf.Gemma3ForCausalLM,
        hf.Gemma3TextConfig(
            **SIZES | {"num_hidden_layers": layers},
            head_dim=12,
            query_pre_attn_scalar=20,
            rope_parameters={
                "full_attention": rope(5000.0, rope_type="linear", factor=8.0),
                "sliding_attention": rope(50.0),
            },
            sliding_window=7,
            rms_norm_eps=1e-3,
        ),
        weights.GEMMA3_WEIGHTS,
    )


def olmo2():
    return (
        ours.olmo2(**OUR_SIZES, theta=500.0, eps=1e-3),
        hf.Olmo2ForCausalLM,
        hf.Olmo2Config(**SIZES, rope_parameters=rope(500.0), rms_norm_eps=1e-3),
        weights.OLMO2_WEIGHTS,
    )


def phi3():
    return (
        ours.phi3(**OUR_SIZES, theta=500.0, rotary_fraction=0.5, window=7, eps=1e-3),
        hf.Phi3ForCausalLM,
        hf.Phi3Config(
            **SIZES,
            rope_parameters=rope(500.0, partial_rotary_factor=0.5),
            sliding_window=7,
            rms_norm_eps=1e-3,
        ),
        weights.PHI3_WEIGHTS,
    )


def mamba2():
    return (
        ours.mamba2(
            vocab_size=VOCAB,
            dim=DIM,
            num_layers=LAYERS,
            state_dim=10,
            head_dim=12,
            num_groups=2,
            conv_width=3,
            chunk_size=8,
            eps=1e-3,
            tied=False,
        ),
        hf.Mamba2ForCausalLM,
        hf.Mamba2Config(
            vocab_size=VOCAB,
            hidden_size=DIM,
            num_hidden_layers=LAYERS,
            state_size=10,
            num_heads=8,
            head_dim=12,
            n_groups=2,
            conv_kernel=3,
            chunk_size=8,
            layer_norm_epsilon=1e-3,
            initializer_range=0.2,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        ),
        weights.MAMBA2_WEIGHTS,
    )


def deepseek_v3():
    scale = (8 + 4) ** -0.5 * (0.1 * math.log(4.0) + 1) ** 2
    return (
        ours.deepseek_v3(
            vocab_size=VOCAB,
            dim=DIM,
            num_layers=3,
            num_dense_layers=1,
            num_heads=HEADS,
            query_rank=20,
            kv_rank=14,
            hidden_dim=HIDDEN,
            expert_hidden_dim=12,
            num_experts=8,
            top_k=3,
            num_groups=4,
            top_groups=2,
            content_dim=8,
            rotary_dim=4,
            value_dim=6,
            theta=500.0,
            frequencies=YarnFrequencies.Config(factor=4.0, original_length=8, amplitude=1.0),
            scale=scale,
        ),
        hf.DeepseekV3ForCausalLM,
        hf.DeepseekV3Config(
            **SIZES | {"num_key_value_heads": HEADS},
            first_k_dense_replace=1,
            q_lora_rank=20,
            kv_lora_rank=14,
            moe_intermediate_size=12,
            n_routed_experts=8,
            num_experts_per_tok=3,
            n_group=4,
            topk_group=2,
            qk_nope_head_dim=8,
            qk_rope_head_dim=4,
            v_head_dim=6,
            rope_parameters=rope(
                500.0,
                rope_type="yarn",
                factor=4.0,
                original_max_position_embeddings=8,
                mscale=1.0,
                mscale_all_dim=1.0,
            ),
        ),
        weights.DEEPSEEK_V3_WEIGHTS,
    )


FAMILIES = (
    gpt2,
    llama2,
    llama3,
    mistral,
    mixtral,
    qwen2,
    qwen3,
    qwen3_moe,
    gemma2,
    gemma3,
    olmo2,
    phi3,
    mamba2,
    deepseek_v3,
)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.__name__)
def pair(request, make_pair, tmp_path_factory):
    return make_pair(*request.param(), tmp_path_factory.mktemp(request.param.__name__))


def tokens(length, rows=2):
    return np.random.default_rng(length).integers(0, VOCAB, (rows, length))


@pytest.mark.parametrize("length", [1, LENGTH])
def test_logits_are_equal(pair, length):
    ids = tokens(length)
    expected = pair.their_logits(ids)
    assert expected.std() > 0.5
    np.testing.assert_allclose(pair.logits({"input_ids": ids}), expected, atol=1e-4)


def test_logits_of_padded_rows_are_equal(pair):
    ids = tokens(LENGTH)
    real = np.arange(LENGTH) < np.array([[LENGTH], [20]])
    positions = np.broadcast_to(np.arange(LENGTH), ids.shape)
    batch = {"input_ids": ids, "segment_ids": real.astype(np.int32), "positions": positions}
    expected = pair.their_logits(ids, attention_mask=torch.as_tensor(real))
    np.testing.assert_allclose(pair.logits(batch)[real], expected[real], atol=1e-4)


def test_packed_documents_have_the_logits_of_each_alone(pair):
    ids = tokens(LENGTH)
    split = 12
    segments = np.where(np.arange(LENGTH) < split, 1, 2)
    positions = np.where(segments == 1, np.arange(LENGTH), np.arange(LENGTH) - split)
    batch = {
        "input_ids": ids,
        "segment_ids": np.broadcast_to(segments, ids.shape),
        "positions": np.broadcast_to(positions, ids.shape),
    }
    alone = [pair.their_logits(ids[:, :split]), pair.their_logits(ids[:, split:])]
    np.testing.assert_allclose(pair.logits(batch), np.concatenate(alone, axis=1), atol=1e-4)


def test_gradients_are_equal(pair):
    ids = tokens(LENGTH + 1)
    weights = np.random.default_rng(0).integers(0, 2, (2, LENGTH)).astype(np.float32)
    batch = {"input_ids": ids[:, :-1], "target_ids": ids[:, 1:], "target_weights": weights}

    def compare(spec, ours, theirs):
        if not spec.trainable:
            return
        scale = np.abs(theirs).max()
        assert scale > 0
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-3)

    jax.tree.map(compare, pair.ours.parameter_specs(), *pair.gradients(batch))


def test_exporting_what_was_imported_gives_the_same_bits_and_names(pair):
    exported = export_weights(pair.mapping, pair.ours, pair.state)
    assert exported.keys() == pair.tensors.keys()
    for name, tensor in pair.tensors.items():
        np.testing.assert_array_equal(exported[name], tensor, err_msg=name)


def test_a_folder_goes_in_and_comes_out_as_the_same_model(pair):
    again = pair.out_and_in_again(hf.AutoModelForCausalLM)
    ids = torch.as_tensor(tokens(LENGTH))
    with torch.no_grad():
        np.testing.assert_array_equal(again(ids).logits, pair.theirs(ids).logits)
