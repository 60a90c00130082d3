import numpy as np
import pytest
from axlearn_core.config import BuildError, ConfigError
from axlearn_core.errors import UserError
from axlearn_core.testing.contracts import ConfigContract

from acme_sums import AlphabetTokenizer


class TestAlphabetTokenizer(ConfigContract):
    def config(self):
        return AlphabetTokenizer.Config(alphabet="abc")


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


@pytest.mark.parametrize("alphabet", ["", "abca"])
def test_an_alphabet_of_nothing_or_of_repetitions_is_refused(alphabet):
    with pytest.raises((BuildError, ConfigError), match="must have characters, each of them once"):
        tokenizer(alphabet)
