"""The mask algebra: what it allows, what it knows of blocks, how it prints."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axlearn_core.config import (
    ConfigError,
    Configurable,
    apply_overrides,
    format_value,
    from_json,
    to_json,
)
from axlearn_core.kernels import (
    BlockKind,
    Mask,
    causal,
    chunk,
    full,
    prefix,
    same_segment,
    split_segments,
    window,
)

_LEAVES = st.one_of(
    st.just(full()),
    st.just(causal()),
    st.builds(window, st.integers(1, 12)),
    st.builds(prefix, st.integers(1, 12)),
    st.builds(chunk, st.integers(1, 12)),
    st.just(same_segment()),
)
MASKS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=6,
)


class Masked(Configurable):
    class Config(Configurable.Config):
        mask: Mask = causal()
        maybe: Mask | None = None
        anything: Any = None


class NoNames:
    """A registry of nothing."""

    def name_of(self, obj):
        return None


RANGES = st.builds(
    lambda start, size: range(start, start + size), st.integers(0, 20), st.integers(1, 9)
)


def _evaluate(mask, queries, keys, segments):
    allowed = mask.evaluate(
        np.array(queries), np.array(keys), segments[None, list(queries)], segments[None, list(keys)]
    )
    return np.broadcast_to(allowed, (1, len(queries), len(keys)))[0]


def _python(text, query, key, same):
    """Evaluates the printed algebra for one pair: an independent reading of it."""
    names = {
        "full": True,
        "causal": key <= query,
        "window": lambda size: -size < query - key < size,
        "prefix": lambda length: key < length,
        "chunk": lambda size: query // size == key // size,
        "same_segment": same,
        "invert": lambda value: not value,
    }
    words = text.replace("~", " not ").replace("&", " and ").replace("|", " or ")
    return bool(eval(words, names))


@given(MASKS, RANGES, RANGES, st.lists(st.integers(1, 3), min_size=30, max_size=30))
def test_a_mask_allows_what_it_prints(mask, queries, keys, segments):
    segments = np.array(segments)
    allowed = _evaluate(mask, queries, keys, segments)
    expected = [
        [_python(str(mask), q, k, segments[q] == segments[k]) for k in keys] for q in queries
    ]
    np.testing.assert_array_equal(allowed, expected)


@given(MASKS, RANGES, RANGES, st.lists(st.integers(1, 3), min_size=30, max_size=30))
def test_a_block_said_to_be_empty_or_full_is(mask, queries, keys, segments):
    allowed = _evaluate(mask, queries, keys, np.array(segments))
    kind = mask.block(queries, keys)
    assert not (kind is BlockKind.EMPTY and allowed.any())
    assert not (kind is BlockKind.FULL and not allowed.all())


@given(st.sampled_from([causal(), window(5), prefix(7), chunk(5), full()]), RANGES, RANGES)
def test_blocks_of_simple_masks_are_known_exactly(mask, queries, keys):
    allowed = _evaluate(mask, queries, keys, np.ones(30, int))
    exact = (
        BlockKind.FULL if allowed.all() else BlockKind.PARTIAL if allowed.any() else BlockKind.EMPTY
    )
    assert mask.block(queries, keys) is exact


@given(MASKS, st.lists(st.integers(1, 3), min_size=30, max_size=30))
def test_a_mask_that_includes_self_leaves_no_row_empty(mask, segments):
    allowed = _evaluate(mask, range(30), range(30), np.array(segments))
    assert not mask.includes_self or np.diagonal(allowed).all()


@given(MASKS)
def test_no_query_sees_further_back_than_the_reach(mask):
    allowed = _evaluate(mask, range(30), range(30), np.ones(30, int))
    query, key = np.nonzero(allowed)
    assert mask.reach is None or (query - key < mask.reach).all()


@pytest.mark.parametrize(
    ("mask", "reach"),
    [
        (causal() & window(4) & same_segment(), 4),
        (causal() & (window(4) | chunk(6)), 6),
        (causal() & (window(4) | prefix(2)), None),
        (causal() & ~window(4), None),
        (window(4) & chunk(3), 3),
    ],
)
def test_the_reach_of_a_mask_is_that_of_its_window(mask, reach):
    assert mask.reach == reach


@given(MASKS)
def test_full_is_neutral_and_repetition_changes_nothing(mask):
    assert full() & mask == mask & full() == mask & mask == mask | mask == ~~mask == mask
    assert full() | mask == full()


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (causal() & window(4096) & same_segment(), "causal & window(4096) & same_segment"),
        (causal() & (window(4096) & same_segment()), "causal & window(4096) & same_segment"),
        ((causal() | prefix(3)) & same_segment(), "(causal | prefix(3)) & same_segment"),
        (~(causal() & window(2)) | ~causal(), "~(causal & window(2)) | ~causal"),
    ],
)
def test_a_mask_prints_as_its_algebra(mask, text):
    assert str(mask) == repr(mask) == text


@given(MASKS)
def test_a_mask_reads_what_it_prints(mask):
    assert Mask.parse(str(mask)) == mask


@given(MASKS)
def test_a_mask_survives_json_and_an_override(mask):
    cfg = Masked.default_config().set(mask=mask)
    assert from_json(to_json(cfg, NoNames()), Masked.Config, NoNames()) == cfg
    assert apply_overrides(Masked.default_config(), [f"mask={format_value(mask)}"]) == cfg


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("causl", r"must be Mask.*, got 'causl'.*: there is no 'causl'. Did you mean 'causal'"),
        ("causal & windw(3)", r"Did you mean 'window'\?.* Write full, causal, window\(size\), pre"),
        ("window", r"write window\(size\) with integers, not window\(\)"),
        ("window(2.5)", r"write window\(size\) with integers, not window\(2.5\)"),
        ("window(0)", r"window size \(=0\) must be at least 1"),
        ("causal &", r"'causal &' is no expression \(invalid syntax\). Write full, causal"),
        ("causal + full", r"'causal \+ full' has no meaning here"),
        ("full.__class__", r"'full.__class__' has no meaning here"),
    ],
)
@pytest.mark.parametrize("field", ["mask", "maybe"])
def test_a_text_that_is_no_mask_is_answered_with_what_would_be(field, text, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides(Masked.default_config(), [f"{field}={text}"])
    with pytest.raises(ConfigError, match=message):
        Masked.default_config().set(**{field: text})


def test_a_mask_where_the_annotation_names_none_cannot_be_written():
    cfg = Masked.default_config().set(anything=window(3))
    with pytest.raises(ConfigError, match=r"anything = window\(3\) cannot be written"):
        to_json(cfg, NoNames())


@given(MASKS, RANGES, RANGES)
def test_within_one_segment_a_mask_allows_the_same_without_comparing(mask, queries, keys):
    alone = mask.within_segment
    segments = np.ones(30, int)
    assert not alone.needs_segments
    np.testing.assert_array_equal(
        _evaluate(alone, queries, keys, segments), _evaluate(mask, queries, keys, segments)
    )


def test_causal_window_counts_the_own_position():
    mask = causal() & window(2)
    allowed = mask.evaluate(np.arange(4), np.arange(4))
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    np.testing.assert_array_equal(allowed, np.array(expected, bool))


def test_positions_may_differ_between_rows_of_a_batch():
    allowed = causal().evaluate(np.array([[0], [2]]), np.arange(3))
    np.testing.assert_array_equal(allowed, [[[True, False, False]], [[True, True, True]]])


@given(MASKS, RANGES, RANGES, st.integers(1, 12))
def test_a_relative_mask_allows_the_same_wherever_the_sequence_begins(mask, queries, keys, shift):
    segments = np.ones(50, int)
    here = _evaluate(mask, queries, keys, segments)
    there = _evaluate(mask, _moved(queries, shift), _moved(keys, shift), segments)
    assert not mask.is_relative or (here == there).all()


def _moved(positions, shift):
    return range(positions.start + shift, positions.stop + shift)


@pytest.mark.parametrize("mask", [causal() & chunk(4), causal() | prefix(4), ~chunk(2)])
def test_prefixes_and_chunks_are_not_relative(mask):
    assert not mask.is_relative


def test_equal_masks_are_equal_and_hash_alike():
    assert hash(causal() & window(2)) == hash(causal() & window(2))
    assert causal() & window(2) != causal() & window(3)


def test_segments_left_out_are_named_in_the_error():
    with pytest.raises(ValueError, match=r"mask 'causal & same_segment' compares segments"):
        (causal() & same_segment()).evaluate(np.arange(2), np.arange(2))


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"window size \(=0\) must be at least 1"):
        window(0)


def test_segments_are_split_from_what_they_restrict():
    sliding = causal() & window(3)
    assert split_segments(sliding & same_segment()) == (sliding, True)
    assert split_segments(same_segment() & causal()) == (causal(), True)
    assert split_segments(same_segment()) == (full(), True)
    assert split_segments(causal() | prefix(2)) == (causal() | prefix(2), False)


@pytest.mark.parametrize("mask", [causal() | same_segment(), causal() & ~same_segment()], ids=str)
def test_segments_that_do_not_restrict_cannot_be_split(mask):
    assert split_segments(mask) is None
