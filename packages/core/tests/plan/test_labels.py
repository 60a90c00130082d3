"""Logical axes through reshapes, and how a mesh divides them."""

from __future__ import annotations

import pytest

from axlearn_core.plan.labels import Array, Dim, Division, labelled, reshaped

RULES = {"batch": ("data", "fsdp"), "embed": "fsdp", "mlp": "model", "seq": "seq"}


def division(accumulation: int = 1, **sizes: int) -> Division:
    return Division(sizes, RULES, accumulation)


def test_merged_dimensions_keep_both_names_and_give_them_back() -> None:
    rows = labelled((8, 16, 32), ("batch", "seq", "embed"))
    merged = reshaped(rows, (128, 32))
    assert merged == (Dim(128, (("batch", 8), ("seq", 16))), Dim(32, (("embed", 32),)))
    assert reshaped(merged, (8, 16, 32)) == rows


def test_the_slowest_part_of_a_split_dimension_keeps_the_name() -> None:
    assert reshaped(labelled((64,), ("heads",)), (4, 16)) == (Dim(4, (("heads", 4),)), Dim(16))


def test_names_are_lost_where_factors_do_not_fit() -> None:
    assert reshaped(labelled((6, 4), ("batch", "embed")), (4, 6)) == (Dim(4), Dim(6))


def test_a_mesh_axis_divides_only_the_first_dimension_that_wants_it() -> None:
    activations = Array(labelled((8, 32), ("batch", "embed")), 4)
    weights = Array(labelled((32, 64), ("embed", "mlp")), 4)
    split = division(data=2, fsdp=4, model=2)
    assert split.lies(activations) == ("data", "fsdp")
    assert split.lies(weights) == ("fsdp", "model")
    assert split.bytes(weights) == 32 * 64 * 4 // 8
    assert split.bytes(weights, without=["fsdp"]) == 32 * 64 * 4 // 2


def test_micro_batches_make_activations_smaller_and_parameters_not() -> None:
    activations = Array(labelled((8, 32), ("batch", "embed")), 4)
    weights = Array(labelled((32, 64), ("embed", "mlp")), 4)
    assert division(4).bytes(activations) == 8 * 32
    assert division(4).bytes(weights) == 32 * 64 * 4


@pytest.mark.parametrize(("rows", "fsdp", "divides"), [(8, 4, True), (8, 16, False)])
def test_a_mesh_divides_an_array_or_does_not(rows: int, fsdp: int, divides: bool) -> None:
    batch = Array(labelled((rows, 16), ("batch", "seq")), 4)
    assert division(fsdp=fsdp).divides(batch) is divides


def test_scores_are_written_by_plain_attention_only() -> None:
    scores = Array((Dim(2, (("batch", 2),)), Dim(16, (("seq", 16),)), Dim(16, (("seq", 16),))), 4)
    assert division().bytes(scores) == 0
    assert Division({}, RULES, plain_attention=True).bytes(scores) == scores.bytes
