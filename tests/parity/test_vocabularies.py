"""llama.cpp gives texts the ids that our tokenizers give, from the vocabulary of a GGUF file."""

import json
import urllib.request
from functools import partial

import numpy as np
import pytest
import transformers as hf
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from axlearn_huggingface.exporting import Published
from axlearn_huggingface.gguf_export import export_gguf
from axlearn_huggingface.gguf_export.cuts import _NAMES, _NAMES_OF_WHOLE
from axlearn_huggingface.tokenizers import BytePairTrainer, HuggingFaceTokenizer
from axlearn_huggingface.weights import LazyTensors
from axlearn_inputs.corpora import moby_dick
from axlearn_inputs.tokenizers import SentencePieceTrainer

TEXTS = (
    "Call me Ishmael. I'll go, they've GONE; we'd see",
    "  two spaces, trailing  ",
    "\ttabs\n\n\nlines \n  and\r\nmore\n",
    "in 1851 there were 123456789 whales, 3.14 or 1,000,000",
    "naïve café, Ωmega ошибка 鯨は大きい 고래 नमस्ते",
    "emoji 🐋🏴‍☠️ and ☃, e\u0301 decomposed",
    "def f(x):\n    return x**2  # <3 && [a]\\b {c}/d",
    "A<|im_end|>B <|im_start|>user\nHello<|im_end|>\n",
    "",
    " ",
    "a",
)


CHAT = [{"role": "user", "content": "Thar she blows"}]


@pytest.fixture
def llama_cpp(tmp_path):
    """Writes a tiny model with a tokenizer, and returns what llama.cpp's server says of texts."""
    program = pytest.importorskip("xllamacpp")
    servers = []

    def start(tokenizer):
        notes = export_gguf(tiny(tokenizer), tmp_path / "model.gguf")
        parameters = program.CommonParams()
        parameters.model.path = str(tmp_path / "model.gguf")
        parameters.n_ctx, parameters.warmup = 64, False
        servers.append(program.Server(parameters))
        return partial(ask, servers[0].listening_address), notes

    yield start
    servers.clear()


def ask(address, path, **content):
    request = urllib.request.Request(
        f"{address}/{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def tiny(tokenizer):
    vocab, dim = tokenizer.vocab_size, 32
    layer = "model.layers.0"
    shapes = {
        "model.embed_tokens.weight": (vocab, dim),
        "model.norm.weight": (dim,),
        f"{layer}.input_layernorm.weight": (dim,),
        f"{layer}.post_attention_layernorm.weight": (dim,),
        **{f"{layer}.self_attn.{name}_proj.weight": (dim, dim) for name in "qkvo"},
        **{f"{layer}.mlp.{name}_proj.weight": (dim, dim) for name in ("gate", "up", "down")},
    }
    tensors = LazyTensors({n: partial(np.ones, s, np.float32) for n, s in shapes.items()}, shapes)
    config = {
        "vocab_size": vocab,
        "hidden_size": dim,
        "intermediate_size": dim,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "dtype": "float32",
    }
    return Published("llama", config, tensors, tokenizer, [])


def assert_same_ids(asked, tokenizer, texts=TEXTS):
    for text in texts:
        for special, encode in ((False, tokenizer.encode), (True, tokenizer.encode_markup)):
            options = {"content": text, "add_special": False, "parse_special": special}
            assert asked("tokenize", **options)["tokens"] == encode(text).tolist(), text


def test_trained_byte_pairs_and_their_chats(llama_cpp, tmp_path):
    trainer = BytePairTrainer.Config(vocab_size=600, chatml=True, special_tokens=("<|tool|>",))
    tokenizer = trainer.instantiate().train(moby_dick.chapters()[:4], tmp_path)
    asked, notes = llama_cpp(tokenizer)
    assert not notes
    assert_same_ids(asked, tokenizer)
    assert asked("apply-template", messages=CHAT)["prompt"] == rendered(tokenizer, CHAT)


def rendered(tokenizer, messages):
    theirs = hf.PreTrainedTokenizerFast.from_pretrained(tokenizer.config.path)
    return theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_the_metadata_name_what_begins_and_ends_texts(tmp_path):
    gguf = pytest.importorskip("gguf")
    trainer = BytePairTrainer.Config(vocab_size=300, chatml=True).instantiate()
    tokenizer = trainer.train(moby_dick.chapters()[:1], tmp_path)
    export_gguf(tiny(tokenizer), tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    held = {name: field.contents() for name, field in reader.fields.items()}
    ids = {name: value for name, value in held.items() if name.endswith("token_id")}
    # The id 0 stands between documents, and 3 at the end of a turn.
    assert ids == {
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.eot_token_id": 3,
        "tokenizer.ggml.padding_token_id": 1,
    }
    assert held["tokenizer.ggml.add_bos_token"] is False
    assert held["tokenizer.ggml.token_type"][:5] == [3, 3, 3, 3, 1]  # four of them control
    assert held["tokenizer.chat_template"] == tokenizer.chat_template


@pytest.mark.parametrize(
    ("cuts", "whole"),
    [*((cuts, False) for cuts in _NAMES), *((cuts, True) for cuts in _NAMES_OF_WHOLE)],
    ids=[*_NAMES.values(), *_NAMES_OF_WHOLE.values()],
)
def test_published_ways_to_cut_words(cuts, whole, llama_cpp, tmp_path):
    tokenizer = byte_pairs(tmp_path, cuts, whole)
    asked, notes = llama_cpp(tokenizer)
    assert not notes
    assert_same_ids(asked, tokenizer)


def byte_pairs(folder, cuts, whole):
    """A tokenizer with the pre-tokenizer that published files have for these patterns."""
    splits = [
        {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
        for cut in cuts
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    words = {"type": "Sequence", "pretokenizers": [*splits, {**level, "use_regex": False}]}
    library = Library(models.BPE())
    content = {**json.loads(library.to_str()), "pre_tokenizer": words}
    library = Library.from_str(json.dumps(content))
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([*moby_dick.chapters()[:4], *TEXTS * 3], trainer)
    content = json.loads(library.to_str())
    content["model"]["ignore_merges"] = whole
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    return HuggingFaceTokenizer.Config(path=str(folder)).instantiate()


def test_byte_pairs_with_byte_fallback(llama_cpp, tmp_path):
    tokenizer = with_fallback(tmp_path)
    asked, notes = llama_cpp(tokenizer)
    assert not notes
    assert_same_ids(asked, tokenizer)


def with_fallback(folder):
    """Llama 2's kind of a tokenizer.json: bytes where there is no character, a space before."""
    library = Library(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    library.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=names, show_progress=False)
    words = [word for chapter in moby_dick.chapters()[:3] for word in chapter.split()]
    library.train_from_iterator(words, trainer)
    content = json.loads(library.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return HuggingFaceTokenizer.Config(path=str(folder)).instantiate()


def test_pieces_of_sentence_piece_that_are_merged(llama_cpp, tmp_path):
    trainer = SentencePieceTrainer.Config(vocab_size=700).instantiate()
    tokenizer = trainer.train(moby_dick.chapters()[:3], tmp_path)
    asked, notes = llama_cpp(tokenizer)
    assert not notes
    assert_same_ids(asked, tokenizer)


def test_likeliest_pieces_of_sentence_piece_but_bytes(llama_cpp, tmp_path):
    trainer = SentencePieceTrainer.Config(vocab_size=700, model_type="unigram").instantiate()
    tokenizer = trainer.train(moby_dick.chapters()[:3], tmp_path)
    asked, notes = llama_cpp(tokenizer)
    assert any("no bytes" in note for note in notes)
    assert_same_ids(asked, tokenizer, [moby_dick.chapters()[1], "  two spaces \n"])
