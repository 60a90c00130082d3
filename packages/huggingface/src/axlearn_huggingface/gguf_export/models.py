"""What llama.cpp wants to know of each family, and how it keeps their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from axlearn_core.errors import UserError
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
        more: further metadata, by key without the architecture's name.
        scaled: ways of stretching wavelengths that it knows.
    """

    architecture: str
    neighbours: bool = False
    norms_from_one: bool = False
    refused: Callable[[Config], str | None] = lambda config: None
    more: Callable[[Config], dict[str, int | float]] = lambda config: {}
    scaled: tuple[str, ...] = ("default", "linear", "yarn")

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
    size = config.get("sliding_window")
    return None if size is None else f"sliding_window={size} is not computed there"


def _gemma(config: Config) -> str | None:
    if config["query_pre_attn_scalar"] != config["head_dim"]:
        return "query_pre_attn_scalar must be head_dim there"
    if config.get("sliding_window_pattern", 6) != 6:
        return "sliding_window_pattern must be 6 there"
    if config.get("rope_local_base_freq", 10_000.0) != 10_000.0:
        return "rope_local_base_freq must be 10000 there"
    return None


def _gemma2_fields(config: Config) -> dict[str, int | float]:
    return {
        "attention.sliding_window": config["sliding_window"],
        "attn_logit_softcapping": float(config["attn_logit_softcapping"]),
        "final_logit_softcapping": float(config["final_logit_softcapping"]),
    }


_LLAMA = GGUFModel(
    "llama",
    neighbours=True,
    refused=_window,
    scaled=("default", "linear", "yarn", "llama3"),
)

MODELS: dict[str, GGUFModel] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": GGUFModel("qwen2"),
    "qwen3": GGUFModel("qwen3"),
    "olmo2": GGUFModel("olmo2"),
    "gemma2": GGUFModel(
        "gemma2", norms_from_one=True, refused=_gemma, more=_gemma2_fields, scaled=("default",)
    ),
    "gemma3_text": GGUFModel(
        "gemma3",
        norms_from_one=True,
        refused=_gemma,
        more=lambda config: {"attention.sliding_window": config["sliding_window"]},
        scaled=("default", "linear"),
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
    kind = (config.get("rope_scaling") or {}).get("rope_type", "default")
    if kind not in model.scaled:
        raise UserError(
            f"llama.cpp's {model.architecture} is another model: rope_scaling.rope_type={kind!r} "
            f"is not among {', '.join(model.scaled)}"
        )
    return model
