"""MLX's layout: that of Hugging Face, which `mlx-lm` loads for the models that it has."""

from __future__ import annotations

from axlearn_core.errors import UserError

MODELS = frozenset(
    {
        "deepseek_v3",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "llama",
        "mamba2",
        "mistral",
        "mixtral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
    }
)


def check_mlx(model_type: str) -> None:
    """Raises a UserError if mlx-lm has no such model."""
    if model_type not in MODELS:
        raise UserError(f"mlx-lm has no {model_type}; it has {', '.join(sorted(MODELS))}")
