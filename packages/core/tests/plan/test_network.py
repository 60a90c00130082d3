"""How long collectives take, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from axlearn_core.hardware import CPU, Chip
from axlearn_core.plan.network import Network, nearly_cubic, network_of
from axlearn_core.plan.target import Target

SWITCHED = Chip(
    name="switched",
    device_kinds=("switched",),
    peak_flops={"bfloat16": 1e15},
    memory_bytes=2**36,
    memory_bandwidth=1e12,
    interconnect="a switch",
    interconnect_bandwidth=800e9,  # 400 one way
    source="a test",
    domain=8,
    domain_bandwidth=50e9,
)
# A link carries 100 GB/s one way: 1200 / 2 / 6.
TORUS = replace(SWITCHED, domain=64, torus=3, torus_wraps=4, interconnect_bandwidth=1200e9)


def network(chip: Chip, count: int) -> Network:
    return network_of(Target(CPU(), chip, count))


def rows(count: int, size: int) -> np.ndarray:
    return np.arange(count).reshape(-1, size)


def test_on_a_switch_a_device_sends_at_its_full_rate() -> None:
    assert network(SWITCHED, 8).seconds("all-gather", rows(8, 4), 400e9) == pytest.approx(1.0)
    assert network(SWITCHED, 8).seconds("all-to-all", rows(8, 8), 400e9) == pytest.approx(1.0)


def test_a_group_over_a_whole_torus_uses_all_six_links() -> None:
    assert network(TORUS, 64).seconds("all-reduce", rows(64, 64), 600e9) == pytest.approx(1.0)


def test_a_ring_of_one_dimension_uses_two_links_and_a_line_one() -> None:
    assert network(TORUS, 64).seconds("all-gather", rows(64, 4), 200e9) == pytest.approx(1.0)
    # 2 x 2 x 2 goes around nowhere.
    assert network(TORUS, 8).seconds("all-gather", rows(8, 2), 100e9) == pytest.approx(1.0)


def test_an_all_to_all_is_bound_by_the_middle_of_its_longest_dimension() -> None:
    # Of a ring of 4, a link carries 4/8 of the 400 GB that a device holds, 3/4 of which it sends.
    assert network(TORUS, 64).seconds("all-to-all", rows(64, 4), 300e9) == pytest.approx(2.0)


def test_a_permute_takes_a_link_for_each_hop() -> None:
    neighbours = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    assert network(TORUS, 64).seconds("collective-permute", neighbours, 1e9) == pytest.approx(0.01)
    across = np.array([[0, 2], [2, 0]])
    assert network(TORUS, 64).seconds("collective-permute", across, 1e9) == pytest.approx(0.02)


def test_what_crosses_domains_is_shared_among_their_members() -> None:
    joined = network(SWITCHED, 16)
    groups = rows(16, 16)
    assert joined.spans_domains(groups)
    assert not joined.spans_domains(rows(16, 8))
    # Of a result of 160 GB each domain receives half, through 8 adapters of 50 GB/s.
    sent = 160e9 * 15 / 16
    assert joined.seconds("all-gather", groups, sent) == pytest.approx(0.2 * 10 / 10 * 1.875)


def test_pairs_of_a_device_in_each_domain_go_at_the_slow_rate() -> None:
    groups = np.arange(16).reshape(2, 8).T
    assert network(SWITCHED, 16).seconds("all-reduce", groups, 50e9) == pytest.approx(1.0)


def test_an_unknown_rate_gives_no_time() -> None:
    unknown = replace(SWITCHED, domain_bandwidth=None)
    assert network(unknown, 16).seconds("all-reduce", rows(16, 16), 1.0) is None
    assert network(unknown, 16).seconds("all-reduce", rows(16, 8), 1.0) is not None


def test_counts_are_arranged_as_near_to_a_cube_as_can_be() -> None:
    assert nearly_cubic(64, 3) == (4, 4, 4)
    assert nearly_cubic(1024, 3) == (8, 8, 16)
    assert nearly_cubic(6144, 3) == (16, 16, 24)
    assert nearly_cubic(256, 2) == (16, 16)
