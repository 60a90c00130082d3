"""What llama.cpp wants to know of a model besides its tensors: sizes, eps and wavelengths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from axlearn_huggingface.configs.rotary import KINDS, frequencies_of
from axlearn_huggingface.weights.axes import Array

Config = Mapping[str, Any]
Metadata = dict[str, int | float | bool | str]


def of_decoder(config: Config) -> Metadata:
    """Returns what all decoders say, by key without the architecture's name."""
    width = head_width(config)
    return {
        "vocab_size": config["vocab_size"],
        "context_length": config.get("max_position_embeddings") or 4096,
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config.get("intermediate_size") or config["moe_intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.dimension_count": round(width * config.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": float(config["rope_theta"]),
        **_scaling(config),
    }


def of_mixtral(config: Config) -> Metadata:
    return {
        "expert_count": config["num_local_experts"],
        "expert_used_count": config["num_experts_per_tok"],
    }


def of_qwen3_moe(config: Config) -> Metadata:
    return {
        "expert_count": config["num_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
    }


def of_gemma2(config: Config) -> Metadata:
    return {
        "attention.sliding_window": config["sliding_window"],
        "attn_logit_softcapping": float(config["attn_logit_softcapping"]),
        "final_logit_softcapping": float(config["final_logit_softcapping"]),
    }


def of_gemma3(config: Config) -> Metadata:
    return {"attention.sliding_window": config["sliding_window"]}


def of_deepseek(config: Config) -> Metadata:
    """Attention is of one latent that all heads read, with the rotary part beside it."""
    rank, rotary = config["kv_lora_rank"], config["qk_rope_head_dim"]
    scaling = config.get("rope_scaling") or {}
    return {
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": config["q_lora_rank"],
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rotary,
        "attention.value_length": rank,
        "attention.key_length_mla": config["qk_nope_head_dim"] + rotary,
        "attention.value_length_mla": config["v_head_dim"],
        "rope.dimension_count": rotary,
        "leading_dense_block_count": config["first_k_dense_replace"],
        "expert_count": config["n_routed_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_shared_count": 1,
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_group_count": config["n_group"],
        "expert_group_used_count": config["topk_group"],
        "expert_weights_scale": float(config["routed_scaling_factor"]),
        "expert_weights_norm": True,
        "expert_gating_func": 2,  # sigmoid
        **(
            {"rope.scaling.yarn_log_multiplier": 0.1 * scaling["mscale_all_dim"]} if scaling else {}
        ),
    }


def frequency_factors(config: Config) -> dict[str, Array]:
    """Returns the tensor of what each frequency of Llama 3.1 is divided by, if it is one."""
    scaling = dict(config.get("rope_scaling") or {})
    if scaling.get("rope_type") != "llama3":
        return {}
    width = head_width(config)
    theta, positions = config["rope_theta"], np.zeros((1, 1), np.int32)
    frequencies = frequencies_of(config, scaling, ("llama3",))
    assert frequencies is not None
    plain = KINDS["default"].ours.default_config().instantiate()(theta, width, positions)
    stretched = frequencies.instantiate()(theta, width, positions)
    return {"rope_freqs.weight": np.asarray(plain / stretched, np.float32).reshape(-1)}


def head_width(config: Config) -> int:
    """Returns the width of a head of queries."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _scaling(config: Config) -> Metadata:
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type")
    if kind not in ("linear", "yarn"):
        return {}
    found: Metadata = {
        "rope.scaling.type": kind,
        "rope.scaling.factor": float(scaling["factor"]),
    }
    if kind == "yarn":
        found["rope.scaling.original_context_length"] = scaling["original_max_position_embeddings"]
        found["rope.scaling.yarn_beta_fast"] = float(scaling["beta_fast"])
        found["rope.scaling.yarn_beta_slow"] = float(scaling["beta_slow"])
        if (amplitude := scaling.get("attention_factor")) is not None:  # times the usual one
            found["rope.scaling.attn_factor"] = amplitude / (0.1 * math.log(scaling["factor"]) + 1)
    return found
