"""What plans count of attention kernels, against pairs that masks allow one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from axlearn_core.kernels import (
    AttentionSpec,
    attention_flops,
    causal,
    full,
    recording_choices,
    scope_of,
    window,
)
from axlearn_core.kernels.attention_flops import attended_pairs
from axlearn_core.kernels.selection import choose, select

SPEC = AttentionSpec(
    batch=2,
    query_length=256,
    key_length=256,
    query_heads=4,
    kv_heads=2,
    head_dim=16,
    value_dim=32,
    dtype="float32",
    mask=full(),
    scale=1.0,
    logit_cap=None,
    platform="cpu",
    positions_are_arange=True,
    segments_are_shared=True,
)


@pytest.mark.parametrize("mask", [full(), causal(), causal() & window(48)], ids=str)
@pytest.mark.parametrize("size", [1, 16, 100])
def test_pairs_are_those_of_all_blocks_with_an_allowed_one(mask, size) -> None:
    length = 200
    allowed = np.broadcast_to(mask.evaluate(np.arange(length), np.arange(length)), (length, length))
    expected = sum(
        block.size
        for i in range(0, length, size)
        for j in range(0, length, size)
        for block in [allowed[i : i + size, j : j + size]]
        if block.any()
    )
    assert attended_pairs(mask, length, length, size, size) == expected


def test_long_sequences_are_counted_in_larger_blocks() -> None:
    length = 2**20
    half = attended_pairs(causal(), length, length, 128, 128) / length**2
    assert half == pytest.approx(0.5, rel=0.01)


def test_products_have_the_width_of_keys_or_of_values() -> None:
    forward = attention_flops(SPEC, of_keys=1, of_values=1, block=(64, 64))
    assert forward == 2 * 2 * 4 * 256 * 256 * (16 + 32)  # products, batch, heads, pairs, widths
    narrow = replace(SPEC, value_dim=16)
    backward = attention_flops(narrow, of_keys=3, of_values=2, block=(64, 64))
    assert backward == 5 / 2 * attention_flops(narrow, of_keys=1, of_values=1, block=(64, 64))


def test_a_scope_tells_choices_apart() -> None:
    one, same, other = (choose("attention", replace(SPEC, batch=n)) for n in (2, 2, 4))
    assert scope_of(one) == scope_of(same) != scope_of(other)


def test_kernels_have_scopes_only_while_choices_are_recorded() -> None:
    plain = select("attention", SPEC)
    with recording_choices():
        assert type(select("attention", SPEC)) is not type(plain)
