"""Filters: what they drop, against plain Python over sets and tuples."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import BuildError
from axlearn_core.errors import UserError
from axlearn_inputs import (
    CharacterFilter,
    Decontamination,
    ExactDuplicates,
    LengthFilter,
    NearDuplicates,
    RepetitionFilter,
    TextLines,
)
from axlearn_inputs.filters import FilterChain
from axlearn_inputs.filters.memory import KeyMemory
from axlearn_inputs.filters.ngrams import ngram_hashes, word_hashes

VOCABULARY = [f"word{i}" for i in range(5000)]


def prose(seed, count=300):
    return random.Random(seed).choices(VOCABULARY, k=count)


def ngrams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 13))
def test_runs_of_words_have_equal_hashes_only_if_they_are_equal(words, n):
    hashes = ngram_hashes(word_hashes(" ".join(words)), n)
    assert len(set(hashes.tolist())) == len(set(ngrams(words, n)))
    assert len(hashes) == len(ngrams(words, n))


def test_case_punctuation_and_space_make_no_other_words():
    assert (word_hashes("The cat,\n sat!") == word_hashes("the CAT sat")).all()


@pytest.mark.parametrize(("count", "dropped"), [(2, True), (3, False), (5, False), (6, True)])
def test_length_is_in_words(count, dropped):
    by_length = LengthFilter.Config(min_words=3, max_words=5).instantiate()
    assert by_length.drops(" word" * count) is dropped


def test_a_length_that_no_document_has_is_refused():
    with pytest.raises(BuildError, match=r"min_words \(=9\) must be at most max_words \(=5\)"):
        LengthFilter.Config(min_words=9, max_words=5).instantiate()


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("Call me Ishmael. Some years ago, never mind how long", False),
        ("a b c d e f", True),  # words of one letter
        ("pneumonoultramicroscopic electroencephalographically", True),
        ("#tag #tag text more words here", True),
        ("to be continued ... or so they say ... again", True),
        ("1000 2000 3000 4000 words", True),
        ("", True),
    ],
)
def test_what_is_no_prose_is_dropped(text, dropped):
    assert CharacterFilter.default_config().instantiate().drops(text) is dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        (" ".join(prose(0)), False),
        ("\n".join([*prose(1), *["the same line"] * 300]), True),
        (" ".join([*prose(2, 100), *["buy it now"] * 20]), True),  # a frequent 3-gram
        (" ".join([*prose(3, 100), *prose(4, 40), *prose(4, 40)]), True),  # a long one twice
        ("", False),
    ],
)
def test_what_repeats_itself_is_dropped(text, dropped):
    assert RepetitionFilter.default_config().instantiate().drops(text) is dropped


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.integers(2, 6))
def test_repeated_runs_are_counted_as_plain_python_does(words, n):
    text = " ".join(words)
    seen, covered = set(), set()
    for start, run in enumerate(ngrams(words, n)):
        covered |= set(range(start, start + n)) if run in seen else set()
        seen.add(run)
    top = max(Counter(ngrams(words, n)).values(), default=0)
    for share in (0.0, 0.3, 0.6):
        limits = {"max_duplicate_lines": 1.0, "max_duplicate_line_characters": 1.0}
        by_top = RepetitionFilter.Config(
            **limits, max_top_ngram={str(n): share}, max_duplicate_ngrams={}
        )
        assert by_top.instantiate().drops(text) is (top > 1 and top * n > share * len(words))
        by_runs = RepetitionFilter.Config(
            **limits, max_top_ngram={}, max_duplicate_ngrams={str(n): share}
        )
        assert by_runs.instantiate().drops(text) is (len(covered) > share * len(words))


def test_exact_duplicates_are_dropped_and_the_first_stays():
    texts = ["a", "b", "a", "a ", "b", "A"]
    same = ExactDuplicates.Config(capacity=16).instantiate()
    assert [same.drops(text) for text in texts] == [False, False, True, False, True, False]


def test_memory_is_bounded_and_holds_what_was_added_last():
    memory = KeyMemory(1, capacity=1000)
    keys = np.random.default_rng(0).integers(1, 1 << 63, size=(5000, 1), dtype=np.uint64)
    size = memory._keys.nbytes
    for key in keys:
        memory.add(key)
    assert memory._keys.nbytes == size == 16 * 1024
    assert np.mean([memory.seen(key) for key in keys[-1000:]]) > 0.95
    assert np.mean([memory.seen(key) for key in keys[:1000]]) < 0.1


@pytest.mark.parametrize("changed", [5, 12, 25])
def test_near_duplicates_are_found_as_often_as_their_similarity_says(changed):
    """Against 1 - (1 - s^8)^14 with the true s of each pair, from sets of tuples."""
    expected, found, pairs = [], 0, 60
    near = NearDuplicates.Config(capacity=1024).instantiate()
    for seed in range(pairs):
        words, other = prose(seed, 150), prose(seed, 150)
        for place in random.Random(seed).sample(range(150), changed // 5):
            other[place] = "changed"
        other[:changed] = prose(seed + 1000, changed)
        one, two = set(ngrams(words, 5)), set(ngrams(other, 5))
        s = len(one & two) / len(one | two)
        expected.append(1 - (1 - s**8) ** 14)
        assert not near.drops(" ".join(words)), "unrelated text"
        found += near.drops(" ".join(other))
    mean, spread = sum(expected), np.sqrt(sum(p * (1 - p) for p in expected))
    assert abs(found - mean) <= 4 * spread + 1


def test_near_duplicates_differ_in_case_and_punctuation_only():
    near = NearDuplicates.Config(capacity=16).instantiate()
    assert not near.drops("Call me Ishmael. Some years ago")
    assert near.drops("call me Ishmael -- some years ago!")
    assert [near.drops(text) for text in ("", "?!", "", "one", "one")] == [
        False,
        False,
        True,
        False,
        True,
    ]


def decontamination(tmp_path, lines, **fields):
    path = tmp_path / "test.txt"
    path.write_text("\n".join(lines))
    evaluations = TextLines.Config(files=(f"{tmp_path}/{{split}}.txt",))
    return Decontamination.Config(evaluations=evaluations, **fields).instantiate()


def test_a_document_with_13_words_of_an_evaluation_in_a_row_is_dropped(tmp_path):
    question = prose(0, 40)
    contaminated = decontamination(tmp_path, [" ".join(question)])
    for count, dropped in ((12, False), (13, True)):
        text = [*prose(1), *question[7 : 7 + count], *prose(2)]
        assert contaminated.drops(" ".join(text).upper()) is dropped


def test_a_short_text_of_an_evaluation_is_looked_for_whole_from_4_words_on(tmp_path):
    contaminated = decontamination(tmp_path, ["What is the capital?", "Yes it is", "yes"])
    assert contaminated.drops("He asked: what is the capital of it")
    assert not contaminated.drops("yes it is, what is the size")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_decontamination_is_what_sets_of_runs_say(tmp_path_factory, data):
    words = st.lists(st.sampled_from("abcde"), min_size=1, max_size=15)
    texts = data.draw(st.lists(words, min_size=1, max_size=4))
    document = data.draw(words)
    runs = [run for text in texts if len(text) >= 3 for run in ngrams(text, min(len(text), 6))]
    folder = tmp_path_factory.mktemp("evaluation")
    lines = [" ".join(text) for text in texts]
    contaminated = decontamination(folder, lines, shortest=3, longest=6)
    if not runs:
        with pytest.raises(UserError, match=r"nothing to look for: no text .* has 3 words"):
            contaminated.drops("a")
        return
    held = {run for n in range(3, 7) for run in ngrams(document, n)}
    assert contaminated.drops(" ".join(document)) is bool(held & set(runs))


def test_a_chain_counts_what_each_filter_drops_first():
    short = LengthFilter.Config(min_words=2).instantiate()
    same = ExactDuplicates.Config(capacity=16).instantiate()
    chain = FilterChain({"short": short, "same": same})
    assert [chain.keeps(text) for text in ("a b", "a", "a", "a b")] == [True, False, False, False]
    assert chain.dropped == {"short": 2, "same": 1}
