import numpy as np
import pytest
from axlearn_core.config import BuildError, ConfigError
from axlearn_core.errors import UserError
from axlearn_inputs import PackedInput, PrepareSpec, prepare

from acme_sums import AlphabetTokenizer


def tokenizer(alphabet="0123456789+="):
    return AlphabetTokenizer.Config(alphabet=alphabet).instantiate()


def test_an_id_is_the_place_in_the_alphabet():
    assert tokenizer("xyz").encode("zyx").tolist() == [2, 1, 0]


def test_texts_of_the_alphabet_come_back():
    for text in ("", "0", "12+34=46", "=+9876543210"):
        assert tokenizer().decode(tokenizer().encode(text)) == text


def test_special_ids_are_new_ones_and_stand_for_no_text():
    special = [tokenizer().bos_id, tokenizer().eos_id, tokenizer().pad_id]
    assert special == [12, 12, 13] and tokenizer().vocab_size == 14
    assert tokenizer().decode([1, *special, 2]) == "12"


def test_a_document_stands_between_special_ids():
    document = tokenizer().as_document(tokenizer().encode("12"))
    assert document.tolist() == [12, 1, 2, 12] and document.dtype == np.int32


def test_tokenizers_share_a_fingerprint_only_if_they_map_alike():
    assert tokenizer("ab").fingerprint() == tokenizer("ab").fingerprint()
    assert tokenizer("ab").fingerprint() != tokenizer("ba").fingerprint()


def test_other_characters_are_named():
    with pytest.raises(
        UserError, match=r"' ', 'x' in '1 x' is not in the alphabet '0123456789\+='"
    ):
        tokenizer().encode("1 x")


def test_text_is_prepared_with_it(tmp_path):
    spec = PrepareSpec(
        task="letters",
        splits=("train",),
        tokenizer=AlphabetTokenizer.Config(alphabet="abc"),
        seq_len=8,
    )

    def read(task, split, tokenizer):  # instead of a seqio task
        return [(text, tokenizer.encode(text)) for text in ("abc", "cab")]

    prepare(spec, tmp_path / "letters", report=lambda line: None, read=read)
    data = PackedInput.Config(source=spec, directory=str(tmp_path / "letters"), batch_size=1)
    (batch,) = data.set(num_epochs=1).instantiate().batches()
    assert batch["target_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1, 3]]


@pytest.mark.parametrize("alphabet", ["", "abca"])
def test_an_alphabet_of_nothing_or_of_repetitions_is_refused(alphabet):
    with pytest.raises((BuildError, ConfigError), match="must have characters, each of them once"):
        tokenizer(alphabet)
