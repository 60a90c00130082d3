"""The families that llama.cpp has, and how it keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from axlearn_core.errors import UserError
from axlearn_huggingface.gguf_export import metadata
from axlearn_huggingface.gguf_export.layout import split_latents, stack_experts
from axlearn_huggingface.weights import LazyTensors
from axlearn_huggingface.weights.axes import Array

Config = Mapping[str, Any]


@dataclass(frozen=True)
class GGUFModel:
    """A family there.

    Attributes:
        architecture: its name there.
        neighbours: whether rotary pairs are neighbours, and not halves as in published files.
        norms_from_one: whether norms are kept as gains, where published files hold gain - 1.
        refused: returns why a model is not what llama.cpp computes, if it is not.
        more: metadata besides those of all decoders, or in their place.
        scaled: ways of stretching wavelengths that it knows.
        layout: arranges the published tensors.
    """

    architecture: str
    neighbours: bool = False
    norms_from_one: bool = False
    refused: Callable[[Config], str | None] = lambda config: None
    more: Callable[[Config], metadata.Metadata] = lambda config: {}
    scaled: tuple[str, ...] = ("default", "linear", "yarn")
    layout: Callable[[LazyTensors, Config], LazyTensors] = stack_experts

    def convert(self, name: str, tensor: Array, config: Config) -> Array:
        """Returns a published tensor as it is kept there."""
        if self.norms_from_one and name.endswith("norm.weight"):
            return tensor.astype(np.float32) + 1
        if self.neighbours and name.endswith(("q_proj.weight", "k_proj.weight")):
            key = "num_key_value_heads" if "k_proj" in name else "num_attention_heads"
            halves = tensor.reshape(config[key], 2, -1, tensor.shape[1])
            return halves.swapaxes(1, 2).reshape(tensor.shape)
        return tensor


def _window(config: Config) -> str | None:
    size, length = config.get("sliding_window"), config.get("max_position_embeddings")
    if size is None or (length is not None and length <= size):
        return None
    return (
        f"sliding_window={size} is not computed there; texts that are no longer are the same, "
        f"so say that it is good for them: --max-length {size}"
    )


def _gemma(config: Config) -> str | None:
    if config["query_pre_attn_scalar"] != config["head_dim"]:
        return "query_pre_attn_scalar must be head_dim there"
    if config.get("sliding_window_pattern", 6) != 6:
        return "sliding_window_pattern must be 6 there"
    if config.get("rope_local_base_freq", 10_000.0) != 10_000.0:
        return "rope_local_base_freq must be 10000 there"
    return None


def _qwen3_moe(config: Config) -> str | None:
    if not config["norm_topk_prob"]:
        return "norm_topk_prob must be true there"
    return None


def _deepseek(config: Config) -> str | None:
    scaling = config.get("rope_scaling")
    if scaling and scaling.get("mscale") != scaling.get("mscale_all_dim"):
        return "rope_scaling.mscale must be mscale_all_dim there"
    return None


_LLAMA = GGUFModel(
    "llama",
    neighbours=True,
    refused=_window,
    scaled=("default", "linear", "yarn", "llama3"),
)

MODELS: dict[str, GGUFModel] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": replace(_LLAMA, more=metadata.of_mixtral),
    "qwen2": GGUFModel("qwen2"),
    "qwen3": GGUFModel("qwen3"),
    "qwen3_moe": GGUFModel("qwen3moe", refused=_qwen3_moe, more=metadata.of_qwen3_moe),
    "olmo2": GGUFModel("olmo2"),
    "gemma2": GGUFModel(
        "gemma2",
        norms_from_one=True,
        refused=_gemma,
        more=metadata.of_gemma2,
        scaled=("default",),
    ),
    "gemma3_text": GGUFModel(
        "gemma3",
        norms_from_one=True,
        refused=_gemma,
        more=metadata.of_gemma3,
        scaled=("default", "linear"),
    ),
    "phi3": GGUFModel("phi3", refused=_window, scaled=("default",)),
    "deepseek_v3": GGUFModel(
        "deepseek2",
        refused=_deepseek,
        more=metadata.of_deepseek,
        scaled=("default", "yarn"),
        layout=split_latents,
    ),
}


def gguf_model(model_type: str, config: Config) -> GGUFModel:
    """Returns what a family is there.

    Raises:
        UserError: if it is not there, or this model of it is not.
    """
    if model_type not in MODELS:
        raise UserError(f"GGUF is written of {', '.join(MODELS)}, and not of {model_type}")
    model = MODELS[model_type]
    if (why := model.refused(config)) is not None:
        raise UserError(f"llama.cpp's {model.architecture} is another model: {why}")
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", "default")
    if kind not in model.scaled:
        why = f"rope_scaling.rope_type={kind!r} is not among {', '.join(model.scaled)}"
    elif scaling.get("truncate") is False:
        why = "rope_scaling.truncate must be true there"
    else:
        return model
    raise UserError(f"llama.cpp's {model.architecture} is another model: {why}")
