"""MLX's layout: that of Hugging Face, with the fields that `mlx-lm` asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from axlearn_core.errors import UserError
from axlearn_huggingface.exporting import Published

_EPS = 1e-5  # of the norms before Mamba-2's layers there, whatever the config says
_LENGTH = {"max_position_embeddings": 4096}  # where nothing tells; it limits nothing


def _mamba2(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["layer_norm_epsilon"] != _EPS:
        raise UserError(
            f"mlx-lm's mamba2 has an eps of {_EPS} before its layers, and this model one of "
            f"{config['layer_norm_epsilon']}"
        )
    if config["n_groups"] != 1:
        raise UserError(
            f"mlx-lm's mamba2 has one norm of all heads, and this model one of each of its "
            f"{config['n_groups']} groups (n_groups)"
        )
    return {
        "intermediate_size": config["num_heads"] * config["head_dim"],
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_limit": [0.0, float("inf")],
        "time_step_rank": "auto",
    }


# What a model's class there asks for besides what transformers needs.
_ADDED: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "deepseek_v3": lambda config: {},
    "gemma2": lambda config: {},
    "gemma3_text": lambda config: {},
    "gpt2": lambda config: {"n_ctx": config["n_positions"]},
    "llama": lambda config: {},
    "mamba2": _mamba2,
    "mistral": lambda config: {},
    "mixtral": lambda config: {},
    "olmo2": lambda config: {},
    "phi3": lambda config: {},
    "qwen2": lambda config: {},
    "qwen3": lambda config: {},
    "qwen3_moe": lambda config: {"intermediate_size": config["moe_intermediate_size"]},
}
# What it computes without saying that it passes over a field.
_WITHOUT_WINDOWS = ("gemma2", "mistral", "mixtral", "phi3")


def for_mlx(given: Published) -> Published:
    """Returns the same with a config that mlx-lm reads as it is meant.

    Raises:
        UserError: if mlx-lm has no such model.
    """
    config, name = given.config, given.model_type
    if name not in _ADDED:
        raise UserError(f"mlx-lm has no {name}; it has {', '.join(_ADDED)}")
    notes = list(given.notes)
    if name in _WITHOUT_WINDOWS and (size := config.get("sliding_window")) is not None:
        notes.append(f"mlx-lm lets {name} see all tokens: texts of more than {size} differ")
    config = {**_LENGTH, **config, **_ADDED[name](config)}
    tensors = given.tensors.renamed(lambda tensor: tensor.removeprefix("transformer."))  # GPT-2's
    return given._replace(config=config, tensors=tensors, notes=notes)
