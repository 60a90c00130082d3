"""Tokenizers: exact round trips, what becomes a special token and what does not."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, processors

from axlearn_core.config import BuildError, ConfigError
from axlearn_huggingface.tokenizers import (
    BytePairTrainer,
    HuggingFaceTokenizer,
    TiktokenTokenizer,
)

TEXTS = ["the cat sat on the mat in 1984", "another dog and forty-two of them, waiting"] * 4
ANY_TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("\u2581 \n\t09<|>im_endtxof"))


def train(directory, texts=TEXTS, **fields):
    directory.mkdir(exist_ok=True)
    fields = {"vocab_size": 290} | fields
    return BytePairTrainer.Config(**fields).instantiate().train(texts, directory)


def load(path, **fields):
    return HuggingFaceTokenizer.Config(path=str(path), **fields).instantiate()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("bpe"), chatml=True, special_tokens=("<|tool|>",))


def joined(tokenizer, ids):
    pieces = tokenizer.pieces()
    return b"".join(pieces[number] for number in ids)


def ranks_of(tokenizer, path):
    """Writes the ranks of a trained tokenizer as tiktoken does, without its special tokens."""
    pieces = [piece for piece in tokenizer.pieces() if piece is not None]
    lines = [f"{base64.b64encode(piece).decode()} {n}" for n, piece in enumerate(pieces)]
    path.write_text("\n".join(lines))
    return len(pieces)


@pytest.fixture(scope="module")
def ranked(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks") / "ranks.tiktoken"
    count = ranks_of(trained, path)
    special = {"<|endoftext|>": count, "<|im_end|>": count + 1}
    config = TiktokenTokenizer.Config(path=str(path), special_tokens=special)
    return config.set(end_tokens=("<|im_end|>",)).instantiate()


@settings(deadline=None)
@given(text=ANY_TEXT)
def test_trained_byte_pairs_decode_to_the_same_text(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert joined(trained, ids) == text.encode()


@settings(deadline=None)
@given(text=ANY_TEXT)
def test_ranks_decode_to_the_same_text(ranked, text):
    ids = ranked.encode(text)
    assert ranked.decode(ids) == text
    assert joined(ranked, ids) == text.encode()


@settings(deadline=None)
@given(content=st.binary())
def test_all_bytes_have_pieces_that_decode_with_replacements(trained, content):
    number_of = {piece: number for number, piece in enumerate(trained.pieces())}
    ids = [number_of[bytes([byte])] for byte in content]
    assert trained.decode(ids) == content.decode(errors="replace")


def test_ranks_and_merges_of_one_training_give_the_same_tokens(trained, ranked):
    text = "the cat sat on a mat and a dog"  # without digits, which only one of them splits
    offset = len(trained.pieces()) - trained.pieces()[::-1].index(None)  # behind special tokens
    assert (trained.encode(text) - offset).tolist() == ranked.encode(text).tolist()


def test_digits_are_tokens_of_their_own(trained):
    assert len(trained.encode("1984")) == 4


def test_training_twice_writes_the_same_bytes(tmp_path, trained):
    train(tmp_path / "again", chatml=True, special_tokens=("<|tool|>",))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        first = trained._path / name
        assert (tmp_path / "again" / name).read_bytes() == first.read_bytes()


def test_a_trained_tokenizer_for_chats_says_where_turns_end(trained):
    vocab = json.loads((trained._path / "tokenizer.json").read_text())["model"]["vocab"]
    assert trained.end_ids == (vocab["<|endoftext|>"], vocab["<|im_end|>"]) == (0, 3)
    assert "<|im_start|>" in trained.chat_template
    assert (trained.bos_id, trained.pad_id) == (-1, 1)


def test_names_of_special_tokens_are_tokens_in_markup_only(trained, ranked):
    for tokenizer in (trained, ranked):
        text = "<|im_end|>a<|endoftext|>"
        assert set(tokenizer.encode(text)).isdisjoint(tokenizer.end_ids)
        first, *_, last = tokenizer.encode_markup(text).tolist()
        assert (first, last) == tokenizer.end_ids[::-1]
        assert tokenizer.decode(tokenizer.encode_markup(text)) == "a"


def test_without_bos_the_eos_stands_before_a_document(trained):
    assert trained.as_document(trained.encode("a"))[0] == trained.eos_id


def test_too_little_text_for_a_vocabulary_is_explained(tmp_path):
    with pytest.raises(ConfigError, match=r"no more than \d+ tokens.*vocab_size than 5000"):
        train(tmp_path, vocab_size=5000)
    with pytest.raises(BuildError, match="must be at least 258: 256 bytes and 2 special"):
        train(tmp_path, vocab_size=257)
    with pytest.raises(BuildError, match="texts that differ"):
        train(tmp_path, special_tokens=("<|endoftext|>",))


# Models of other kinds.


def write(folder, library, **config):
    folder.mkdir(exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def with_byte_fallback(prefix=None):
    """A model as Llama 2's: spaces are marked, and bytes have tokens."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["\u2581", "a", "b", "\u2581a", "ab"]
    vocab = {word: number for number, word in enumerate(words)}
    model = models.BPE(
        vocab, [("\u2581", "a"), ("a", "b")], unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    library = Library(model)
    steps = [normalizers.Replace(" ", "\u2581")]
    undo = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        steps.insert(0, normalizers.Prepend("\u2581"))
        undo.append(decoders.Strip(" ", 1, 0))
    library.normalizer = normalizers.Sequence(steps)
    library.decoder = decoders.Sequence(undo)
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return library


@pytest.fixture(scope="module")
def fallback(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fallback")
    return load(write(folder, with_byte_fallback(), eos_token={"content": "</s>"}))


@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\u2581")))
def test_byte_fallback_decodes_to_the_same_text(fallback, text):
    ids = fallback.encode(text)
    assert fallback.decode(ids) == text
    assert joined(fallback, ids) == text.encode()


def test_bos_is_what_the_file_puts_before_a_text(fallback):
    assert (fallback.bos_id, fallback.eos_id, fallback.pad_id) == (1, 2, 2)


def test_a_space_that_is_added_at_the_beginning_is_taken_away_again(tmp_path):
    tokenizer = load(write(tmp_path, with_byte_fallback(prefix=True), eos_token="</s>"))
    assert tokenizer.decode(tokenizer.encode("ab a")) == "ab a"


def test_a_piece_that_is_also_a_special_token_is_cut_in_text(tmp_path):
    words = [("</s>", 0.0), ("<unk>", 0.0), *((c, -1.0) for c in "</s>ab")]
    library = Library(models.Unigram([(w, p) for w, p in dict(words).items()], unk_id=1))
    library.normalizer = normalizers.NFKC()
    library.decoder = decoders.Fuse()
    tokenizer = load(write(tmp_path, library, eos_token="</s>", unk_token="<unk>"))
    for text in ("a</s>b", "a\uff1c/s\uff1eb"):  # the second one is the first after NFKC
        ids = tokenizer.encode(text)
        assert tokenizer.eos_id not in ids
        assert tokenizer.decode(ids) == "a</s>b"
    with pytest.raises(NotImplementedError, match="does not tell what bytes"):
        tokenizer.pieces()


def test_vocab_and_merges_are_enough(tmp_path, trained):
    content = json.loads((trained._path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(content["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in content["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    tokenizer = load(tmp_path)
    text = "the cat, <|endoftext|>"
    assert tokenizer.encode(text).tolist() == trained.encode(text).tolist()
    assert tokenizer.decode([*tokenizer.encode("a mat"), tokenizer.eos_id]) == "a mat"


def test_the_template_of_a_list_is_the_default_one(tmp_path):
    several = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    folder = write(tmp_path, with_byte_fallback(), eos_token="</s>", chat_template=several)
    assert load(folder).chat_template == "d"
    (folder / "chat_template.jinja").write_text("file")
    assert load(folder).chat_template == "file"


def test_names_for_templates_are_those_of_the_config(tmp_path):
    extra = {"image_token": "a"}
    folder = write(tmp_path, with_byte_fallback(), eos_token="</s>", extra_special_tokens=extra)
    assert load(folder).special_tokens == {"eos_token": "</s>", "image_token": "a"}
    assert 5 not in load(folder).encode("a")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "[]", "holds no JSON object"),
        ("tokenizer.json", "{", "is no JSON"),
        ("tokenizer.json", "{}", "is no tokenizer"),
        ("tokenizer_config.json", "{}", "does not say which token ends a document"),
        ("tokenizer_config.json", '{"eos_token": "no"}', "does not say which token ends"),
        ("generation_config.json", "7", "holds no JSON object"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, file, content, message):
    write(tmp_path, with_byte_fallback(), eos_token="</s>")
    (tmp_path / file).write_text(content)
    with pytest.raises(BuildError, match=message):
        load(tmp_path)


def test_a_token_that_ends_documents_can_be_given(tmp_path):
    folder = write(tmp_path, with_byte_fallback())
    assert load(folder / "tokenizer.json", eos_token="</s>").eos_id == 2
    with pytest.raises(BuildError, match=r"eos_token \(='</a>'\) is no token"):
        load(folder, eos_token="</a>")


def test_folders_without_a_tokenizer_say_what_to_do(tmp_path):
    with pytest.raises(BuildError, match=r"no tokenizer\.json, nor vocab\.json and merges\.txt"):
        load(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(BuildError, match="inputs/sentencepiece-model"):
        load(tmp_path)
    with pytest.raises(BuildError, match="there is no file"):
        load(tmp_path / "lost.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("IQ== 0\nI?== 1", "line 2: expected a token in base64 and its rank"),
        ("IQ== 0", "no token for 255 of the 256 bytes"),
    ],
)
def test_what_is_wrong_with_ranks_is_said(tmp_path, content, message):
    (tmp_path / "ranks").write_text(content)
    config = TiktokenTokenizer.Config(path=str(tmp_path / "ranks"))
    with pytest.raises(BuildError, match=message):
        config.set(special_tokens={"<|endoftext|>": 300}).instantiate()


def test_special_tokens_of_ranks_must_have_ids_of_their_own(tmp_path, trained):
    path = tmp_path / "ranks"
    ranks_of(trained, path)
    config = TiktokenTokenizer.Config(path=str(path), special_tokens={"<|endoftext|>": 3})
    with pytest.raises(BuildError, match=r"the ids \[3\], which .* has too"):
        config.instantiate()
    with pytest.raises(BuildError, match="'</s>' ends texts, but special_tokens has"):
        config.set(eos_token="</s>").instantiate()
