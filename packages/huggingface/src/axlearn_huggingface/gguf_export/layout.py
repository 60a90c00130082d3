"""How llama.cpp arranges what published files have in other tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from axlearn_huggingface.weights import LazyTensors
from axlearn_huggingface.weights.axes import Array

Config = Mapping[str, Any]

_EXPERT = re.compile(r"(.*\.experts)\.\d+(\..*)")
_LATENT = "self_attn.kv_b_proj.weight"


def stack_experts(tensors: LazyTensors, config: Config) -> LazyTensors:
    """Returns the same, but one tensor (expert, ...) for those of a layer's experts."""
    names: dict[str, list[str]] = {}
    for name in tensors:
        found = _EXPERT.fullmatch(name)
        names.setdefault(name if found is None else found[1] + found[2], []).append(name)
    loaders: dict[str, Callable[[], Array]] = {}
    shapes = {}
    for merged, each in names.items():
        alone = merged == each[0]
        loaders[merged] = partial(tensors.__getitem__, merged) if alone else _stack(tensors, each)
        shape = tensors.shapes[each[0]]
        shapes[merged] = shape if alone else (len(each), *shape)
    return LazyTensors(loaders, shapes)


def split_latents(tensors: LazyTensors, config: Config) -> LazyTensors:
    """Returns DeepSeek's with a head's keys and values apart, and its experts together.

    The scores of latent attention are (W_k^T q) c, so W_k is kept as (head, rank, content) and W_v
    as (head, value, rank), to which c has but one head (arXiv:2405.04434, section 2.1.2).
    """
    heads, content = config["num_attention_heads"], config["qk_nope_head_dim"]
    rank, value = config["kv_lora_rank"], config["v_head_dim"]

    def keys(name: str) -> Array:
        whole: Array = tensors[name].reshape(heads, content + value, rank)
        return whole[:, :content].swapaxes(1, 2)

    def values(name: str) -> Array:
        whole: Array = tensors[name].reshape(heads, content + value, rank)
        return whole[:, content:]

    loaders: dict[str, Callable[[], Array]] = {}
    shapes = {}
    for name, shape in tensors.shapes.items():
        if not name.endswith(_LATENT):
            theirs = name.replace("e_score_correction_bias", "e_score_correction.bias")
            loaders[theirs], shapes[theirs] = partial(tensors.__getitem__, name), shape
            continue
        for key, part, size in (
            ("k_b_proj", keys, (heads, rank, content)),
            ("v_b_proj", values, (heads, value, rank)),
        ):
            theirs = name.replace("kv_b_proj", key)
            loaders[theirs], shapes[theirs] = partial(part, name), size
    return stack_experts(LazyTensors(loaders, shapes), config)


def _stack(tensors: LazyTensors, names: list[str]) -> Callable[[], Array]:
    return lambda: np.stack([tensors[name] for name in names])
