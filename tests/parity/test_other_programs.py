"""llama.cpp and mlx-lm compute what transformers computes of the same exported model."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from axlearn_core.checkpoint import choose
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_huggingface.exporting import export_folder, published
from axlearn_huggingface.gguf_export import export_gguf
from axlearn_huggingface.importing import import_folder
from axlearn_huggingface.mlx import for_mlx
from axlearn_layers import LinearFrequencies, YarnFrequencies, families

decoders = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("test_decoders.py"))))
PROMPT, LENGTH, END = "Hello, world", 24, 96


class Printable(Tokenizer):
    """A token per printable character of ASCII, a line end, and five special ids."""

    vocab_size, bos_id, eos_id, pad_id = decoders.VOCAB, -1, END, END

    def encode(self, text):
        return np.array([byte - 32 for byte in text.encode()], np.int32)

    def decode(self, ids):
        return b"".join(self.pieces()[i] or b"" for i in ids).decode()

    def fingerprint(self):
        return "printable"

    def pieces(self):
        return [*(bytes([32 + i]) for i in range(95)), b"\n", *[None] * 5]


def gemma2():
    """As llama.cpp has it: scores are scaled by the width of a head."""
    _, theirs, config, mapping = decoders.gemma2()
    config.query_pre_attn_scalar = 12
    ours = families.gemma2(
        **decoders.OUR_SIZES,
        head_dim=12,
        score_dim=12,
        theta=500.0,
        window=7,
        attention_cap=3.0,
        logit_cap=4.0,
        eps=1e-3,
    )
    return ours, theirs, config, mapping


def gemma3():
    """As llama.cpp has it, where local layers have their own theta besides."""
    _, theirs, config, mapping = decoders.gemma3()
    config.query_pre_attn_scalar = 12
    config.rope_parameters["sliding_attention"]["rope_theta"] = 1e4
    ours = families.gemma3(
        **decoders.OUR_SIZES | {"num_layers": 7},
        head_dim=12,
        score_dim=12,
        theta=5000.0,
        frequencies=LinearFrequencies.Config(factor=8.0),
        local_theta=1e4,
        window=7,
        eps=1e-3,
    )
    return ours, theirs, config, mapping


def yarn():
    """A Llama whose wavelengths are stretched, with an amplitude that is not the usual one."""
    _, theirs, config, mapping = decoders.llama2()
    scaling = {"factor": 4.0, "original_max_position_embeddings": 8, "attention_factor": 1.5}
    config.rope_parameters = decoders.rope(500.0, rope_type="yarn", **scaling)
    frequencies = YarnFrequencies.Config(factor=4.0, original_length=8, amplitude=1.5)
    ours = families.llama(**decoders.OUR_SIZES, theta=500.0, frequencies=frequencies, eps=1e-3)
    return ours, theirs, config, mapping


def mistral():
    """As llama.cpp has it: without a window."""
    _, theirs, config, mapping = decoders.mistral()
    config.sliding_window = None
    ours = families.llama(**decoders.OUR_SIZES, head_dim=12, theta=500.0, eps=1e-3)
    return ours, theirs, config, mapping


def mixtral():
    """As llama.cpp has it: without a window."""
    _, theirs, config, mapping = decoders.mixtral()
    config.sliding_window = None
    sizes = {**decoders.OUR_SIZES, "num_experts": 5, "top_k": 2}
    return families.mixtral(**sizes, theta=500.0, eps=1e-3), theirs, config, mapping


def phi3():
    """As llama.cpp has it: without a window."""
    _, theirs, config, mapping = decoders.phi3()
    config.sliding_window = None
    ours = families.phi3(**decoders.OUR_SIZES, theta=500.0, rotary_fraction=0.5, eps=1e-3)
    return ours, theirs, config, mapping


def mamba2():
    """As mlx-lm has it: with one group, and an eps that does not follow the config."""
    _, theirs, config, mapping = decoders.mamba2()
    config.n_groups, config.layer_norm_epsilon = 1, 1e-5
    sizes = {"vocab_size": decoders.VOCAB, "dim": decoders.DIM, "num_layers": decoders.LAYERS}
    inner = {"state_dim": 10, "head_dim": 12, "conv_width": 3, "chunk_size": 8}
    return families.mamba2(**sizes, **inner, eps=1e-5, tied=False), theirs, config, mapping


def imported(family, make_pair, tmp_path):
    pair = make_pair(*family(), tmp_path)
    import_folder(tmp_path / "published", tmp_path / "run")
    return pair, published(choose(tmp_path / "run", None).info)


@pytest.mark.parametrize(
    "family",
    [
        decoders.llama2,
        decoders.llama3,
        yarn,
        decoders.qwen2,
        decoders.qwen3,
        decoders.olmo2,
        gemma2,
        gemma3,
        mistral,
        mixtral,
        phi3,
        decoders.qwen3_moe,
        decoders.deepseek_v3,
    ],
)
def test_llama_cpp_writes_the_same_text(family, make_pair, tmp_path):
    llama_cpp = pytest.importorskip("xllamacpp")
    pair, given = imported(family, make_pair, tmp_path)
    tokenizer = Printable.default_config().instantiate()
    export_gguf(given._replace(tokenizer=tokenizer), tmp_path / "model.gguf", kind="f32")
    ids = torch.as_tensor(tokenizer.encode(PROMPT))[None].long()
    options = {"max_new_tokens": LENGTH, "do_sample": False}
    found = pair.theirs.generate(ids, **options, eos_token_id=END, pad_token_id=END)
    parameters = llama_cpp.CommonParams()
    parameters.model.path = str(tmp_path / "model.gguf")
    parameters.n_ctx, parameters.warmup = 256, False
    # In float16, as by default, it would choose otherwise where two tokens are nearly as likely.
    parameters.cache_type_k = parameters.cache_type_v = llama_cpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = llama_cpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    asked = {"prompt": PROMPT, "max_tokens": LENGTH, "temperature": 0.0, "top_k": 1}
    answer = llama_cpp.Server(parameters).handle_completions(asked)
    answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
    expected = tokenizer.decode(found[0, ids.shape[1] :].tolist())
    assert len(expected) > 4
    assert answer["choices"][0]["text"] == expected


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
def test_a_gguf_file_holds_the_numbers_in_any_type(kind, make_pair, tmp_path):
    gguf = pytest.importorskip("gguf")
    pair, given = imported(decoders.qwen2, make_pair, tmp_path)
    export_gguf(given, tmp_path / "model.gguf", kind=kind)
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    down = tensors["blk.1.ffn_down.weight"]  # rows of 80 are no whole blocks of q8_0
    assert down.tensor_type.name == {"q8_0": "F16"}.get(kind, kind.upper())
    found = gguf.quants.dequantize(down.data, down.tensor_type)
    expected = pair.tensors["model.layers.1.mlp.down_proj.weight"]
    step = 2**-8 if kind == "bf16" else 2**-11  # half a unit in the last place
    np.testing.assert_allclose(found, expected, rtol=step, atol=1e-7)
    assert tensors["output_norm.weight"].tensor_type.name == "F32"


@pytest.mark.parametrize(
    "family",
    [
        decoders.gpt2,
        decoders.llama2,
        decoders.llama3,
        decoders.qwen2,
        decoders.qwen3,
        decoders.qwen3_moe,
        decoders.olmo2,
        decoders.deepseek_v3,
        decoders.mistral,
        decoders.mixtral,
        decoders.phi3,
        decoders.gemma2,
        mamba2,
    ],
)
def test_mlx_computes_the_same_logits(family, make_pair, tmp_path):
    mlx = pytest.importorskip("mlx.core")
    load_model = pytest.importorskip("mlx_lm.utils").load_model
    pair, given = imported(family, make_pair, tmp_path)
    given = for_mlx(given)
    export_folder(given, tmp_path / "mlx", made_for="mlx")
    model, _ = load_model(tmp_path / "mlx")
    # Without its windows, which mlx-lm does not have of them all, a text is the same up to one.
    without_windows = any("see all tokens" in note for note in given.notes)
    ids = decoders.tokens(7 if without_windows else decoders.LENGTH)
    found = np.array(model(mlx.array(ids)).astype(mlx.float32))
    np.testing.assert_allclose(found, pair.their_logits(ids), atol=1e-4)
