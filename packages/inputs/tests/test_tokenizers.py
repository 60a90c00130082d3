"""Tokenizers: exact round trips, fingerprints, and what cannot be trained."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axlearn_core.config import BuildError, ConfigError
from axlearn_inputs.corpora import moby_dick
from axlearn_inputs.tokenizers import ByteTokenizer, SentencePieceTokenizer, SentencePieceTrainer

BYTES = ByteTokenizer.default_config().instantiate()


def train(directory: Path, texts=None, **fields) -> SentencePieceTokenizer:
    directory.mkdir(exist_ok=True)
    trainer = SentencePieceTrainer.default_config().set(**{"vocab_size": 512} | fields)
    return trainer.instantiate().train(texts or moby_dick.documents("validation"), directory)


@pytest.fixture(scope="module")
def subwords(tmp_path_factory) -> SentencePieceTokenizer:
    return train(tmp_path_factory.mktemp("subwords"))


@given(st.text())
def test_bytes_decode_to_the_same_text(text):
    assert BYTES.decode(BYTES.encode(text)) == text
    assert BYTES.encode(text).tolist() == list(text.encode())


def test_bytes_leave_special_ids_out_and_replace_broken_utf8():
    assert BYTES.decode([256, 104, 105, 257, 256]) == "hi"
    assert BYTES.decode([0xC3, 104]) == "\ufffdh"


@given(text=st.text(st.characters(codec="utf-8") | st.sampled_from("\u2581 \n\t")))
def test_subwords_decode_to_the_same_text(subwords, text):
    assert subwords.decode(subwords.encode(text)) == text


def test_subwords_decode_the_corpus_to_the_same_text(subwords):
    for chapter in moby_dick.chapters()[::10]:
        assert subwords.decode(subwords.encode(chapter)) == chapter


def test_subwords_are_fewer_than_characters(subwords):
    text = moby_dick.chapters()[0]
    assert len(subwords.encode(text)) < 0.6 * len(text)


def test_training_twice_gives_the_same_fingerprint(tmp_path, subwords):
    assert train(tmp_path / "again").fingerprint() == subwords.fingerprint()


def test_other_text_gives_another_fingerprint(tmp_path, subwords):
    other = train(tmp_path / "other", moby_dick.documents("train")[:5])
    assert other.fingerprint() != subwords.fingerprint()


def test_special_ids_stand_around_a_document(subwords):
    for tokenizer in (BYTES, subwords):
        ids = tokenizer.as_document(tokenizer.encode("a\n"))
        assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        assert tokenizer.decode(ids) == "a\n"


@pytest.mark.parametrize(("size", "reason"), [(10**6, "too high"), (100, "smaller than")])
def test_an_impossible_vocabulary_is_explained(tmp_path, size, reason):
    with pytest.raises(ConfigError, match=rf"cannot make {size} pieces.*{reason}.*vocab_size"):
        train(tmp_path, vocab_size=size)


def test_a_missing_model_file_is_named(tmp_path):
    with pytest.raises(BuildError, match=r"no SentencePiece model at .*lost\.model"):
        SentencePieceTokenizer.Config(path=str(tmp_path / "lost.model")).instantiate()
