"""Text from ids as they come: no half characters, and nothing after a stop string."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.errors import UserError
from axlearn_inference.text import Detokenizer, StopStrings, TextStream


class Bytes:
    """A token per byte, and 256 is special."""

    def __init__(self):
        self.decoded = 0

    def decode(self, ids):
        self.decoded += len(ids)
        return bytes(i for i in ids if i < 256).decode(errors="replace")


class Words:
    """A token per word with a space before it, which is left out at the beginning of a text."""

    def decode(self, ids):
        return "".join(f" w{i}" for i in ids)[1:]


@settings(max_examples=50)
@given(st.text())
def test_pieces_of_any_text_make_the_text(text):
    stream = Detokenizer(Bytes())
    pieces = [stream.feed(token) for token in text.encode()]
    assert "".join(pieces) == text
    assert stream.flush() == ""


@given(st.lists(st.integers(0, 256)))
def test_pieces_of_any_ids_make_their_text(ids):
    stream = Detokenizer(Bytes())
    pieces = [stream.feed(token) for token in ids]
    assert "".join(pieces) + stream.flush() == Bytes().decode(ids)


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9)))
def test_the_prompt_decides_what_stands_between(prompt, ids):
    stream = Detokenizer(Words(), prompt)
    text = "".join(map(stream.feed, ids)) + stream.flush()
    assert Words().decode(prompt) + text == Words().decode([*prompt, *ids])


def test_a_character_comes_with_its_last_byte():
    stream = Detokenizer(Bytes())
    assert [stream.feed(token) for token in "aé🙂".encode()] == ["a", "", "é", "", "", "", "🙂"]


def test_half_a_character_at_the_end_is_told_at_the_end():
    stream = Detokenizer(Bytes())
    assert stream.feed(0xE4) == ""
    assert stream.flush() == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("token", [65, 0xE4, 256])
def test_an_id_costs_the_same_in_a_long_text(token):
    tokenizer = Bytes()
    stream = Detokenizer(tokenizer)
    for _ in range(1000):
        stream.feed(token)
    assert tokenizer.decoded < 100 * 1000


@given(
    st.lists(st.text("ab", min_size=1), max_size=3),
    st.lists(st.text("abc", max_size=3), max_size=20),
)
def test_text_passes_up_to_the_first_stop_string_wherever_it_is_cut(stops, pieces):
    strings = StopStrings(stops)
    passed = ""
    for piece in pieces:
        passed += strings.feed(piece)
        if strings.found:
            break
    passed += strings.flush()
    text = "".join(pieces)
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    if not ends:
        assert (passed, strings.found) == (text, False)
    else:
        # Of several that overlap, the one that is whole first.
        done = min(text.find(stop) + len(stop) for stop in stops if stop in text)
        assert strings.found
        assert passed in {text[:at] for at in ends}
        assert len(passed) <= done
        assert not any(stop in passed for stop in stops)


def test_what_may_begin_a_stop_string_is_held_back():
    strings = StopStrings(["<end>"])
    assert [strings.feed(piece) for piece in ("a<", "en", "x<e")] == ["a", "", "<enx"]
    assert strings.flush() == "<e"


def test_a_stop_string_in_pieces_of_characters():
    stream = TextStream(Bytes(), stops=["é!"])
    text = "".join(stream.feed(token) for token in "xé!".encode())
    assert (text, stream.stopped, stream.flush()) == ("x", True, "")


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UserError, match="at least one character"):
        StopStrings([""])
