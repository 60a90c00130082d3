"""The notation of axes, against numpy's own reshaping."""

import numpy as np
import pytest

from axlearn_huggingface.weights.axes import (
    SizeError,
    cut,
    format_axes,
    infer_sizes,
    parse_axes,
    piece_names,
    shape_of,
)


def sizes_of(text, shape, **given):
    return infer_sizes([(parse_axes(text), shape)], given)


@pytest.mark.parametrize(
    "text", ["a", "a (b c)", "a (b + 1 + 1) c", "(a (b + (c 2)) d) e", "((a b) + (a c)) 1 d", ""]
)
def test_axes_are_written_as_they_are_read(text):
    assert format_axes(parse_axes(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a (b", "open at the end"),
        ("a b)", r"unexpected '\)'"),
        ("a * b", r"unexpected '\*'"),
        ("a (b a)", "stands twice"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_axes(text)


def test_pieces_are_named_in_order():
    axes = parse_axes("embed kv (group + 1 + (two half))")
    expected = [("embed", "kv", "group"), ("embed", "kv"), ("embed", "kv", "two", "half")]
    assert piece_names(axes) == expected


def test_sizes_follow_from_shapes():
    sizes = sizes_of("embed kv (group + 1 + 1) dim", (32, 2, 5, 8))
    assert sizes == {"embed": 32, "kv": 2, "group": 3, "dim": 8}


def test_what_is_known_of_one_tensor_helps_with_another():
    shapes = [(parse_axes("(rank + (2 half)) embed"), (24, 5)), (parse_axes("rank"), (16,))]
    assert infer_sizes(shapes, {}) == {"rank": 16, "half": 4, "embed": 5}


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("a b", (3,), r"2 axes for shape \(3,\)"),
        ("(a 2)", (5,), r"\(a 2\).* cannot be 5"),
        ("(a + 2)", (2,), r"\(a \+ 2\).* cannot be 2"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(text, shape, message):
    with pytest.raises(SizeError, match=message):
        sizes_of(text, shape)


def test_shapes_that_contradict_each_other_are_refused():
    with pytest.raises(SizeError, match=r"a is 3, not 4"):
        infer_sizes([(parse_axes("a"), (3,)), (parse_axes("a b"), (4, 5))], {})


def test_a_size_that_nothing_tells_is_asked_for():
    axes = parse_axes("(a + b)")
    with pytest.raises(SizeError, match="size of a, b does not follow"):
        shape_of(axes, infer_sizes([(axes, (5,))], {}))


def test_cutting_equals_slicing_and_reshaping():
    array = np.arange(2 * 15 * 4).reshape(2 * 15, 4)
    axes = parse_axes("(heads (nope + (2 half))) rank")
    first, second = cut(array, axes, {"heads": 2, "nope": 5, "half": 5, "rank": 4})
    by_head = array.reshape(2, 15, 4)
    np.testing.assert_array_equal(first.array, by_head[:, :5])
    np.testing.assert_array_equal(second.array, by_head[:, 5:].reshape(2, 2, 5, 4))
    assert second.names == ("heads", "2", "half", "rank")


def test_pieces_are_views_that_cover_the_tensor_once():
    axes, sizes = parse_axes("a ((b c) + 1 + 1) (d + e)"), {"a": 2, "b": 3, "c": 2, "d": 1, "e": 4}
    array = np.zeros(shape_of(axes, sizes))
    for piece in cut(array, axes, sizes):
        piece.array[...] += 1
    np.testing.assert_array_equal(array, 1)
