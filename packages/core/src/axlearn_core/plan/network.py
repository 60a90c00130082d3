"""How long collectives take on a network of fast domains, joined by a slower one.

Assumptions, each the usual one of the literature (arXiv:1909.09756 for tori, NCCL's for switches):

- Nothing else is on the links, and messages are long enough that only bandwidth counts.
- On a switch (NVLink) a device sends at its full rate, whatever the group.
- On a torus (TPUs) a group uses the links of those dimensions that it spans: two a dimension where
  it goes around (a ring), one where it does not (a line). Gathers, scatters and sums use all of
  them at once. An all-to-all is bound by its longest dimension of m devices, in which a link
  carries m/8 of what a device holds (a ring) or m/4 (a line). A permute takes one link, times its
  longest hop.
- A group over k domains, with m members in each, works in two levels: what must cross is shared
  among the m members, each of which sends its part at its rate between domains; the levels
  overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from axlearn_core.hardware import Chip
from axlearn_core.plan.collectives import Collective
from axlearn_core.plan.record import Traffic
from axlearn_core.plan.target import Target

if TYPE_CHECKING:
    from jax.sharding import Mesh

_REDUCING = ("all-gather", "reduce-scatter", "all-reduce", "collective-broadcast")


@dataclass(frozen=True)
class Network:
    """Where the devices of a mesh are.

    Attributes:
        chip: what they are, with the rates of their links.
        domains: which domain each position of the mesh is in, [devices].
        places: coordinates in the torus of its domain, [devices, dimensions]; none on a switch.
    """

    chip: Chip
    domains: NDArray[np.int64]
    places: NDArray[np.int64]

    def spans_domains(self, groups: NDArray[np.int64]) -> bool:
        """Returns whether any of the groups, [groups, devices], is in several domains."""
        members = self.domains[groups]
        return bool((members != members[:, :1]).any())

    def seconds(self, kind: str, groups: NDArray[np.int64], sent: float) -> float | None:
        """Returns how long a collective takes, None if a rate that it needs is unknown.

        Args:
            kind: such as "all-gather".
            groups: positions in the mesh, [groups, devices]; a permute's pairs.
            sent: bytes that each device sends, as `Collective.sent` has them.
        """
        if not self.spans_domains(groups):
            return self._within(kind, groups, sent)
        if self.chip.domain_bandwidth is None:
            return None
        members = self.domains[groups[0]]
        size, count = len(members), len(np.unique(members))
        inside = size // count
        if kind in _REDUCING:
            crossing = sent * (count - 1) / count * size / (size - 1) / inside
        elif kind == "collective-permute":
            crossing = sent
        else:
            crossing = sent * (size - inside) / (size - 1)
        between = crossing / self.chip.domain_bandwidth
        if inside == 1:
            return float(between)
        one_domain = groups[0][members == members[0]][None]
        return float(max(between, self._within(kind, one_domain, sent) or 0.0))

    def _within(self, kind: str, groups: NDArray[np.int64], sent: float) -> float | None:
        if self.chip.interconnect_bandwidth is None:
            return None
        rate = self.chip.interconnect_bandwidth / 2  # one way
        if not self.chip.torus:
            return sent / rate
        link = rate / (2 * self.chip.torus)
        sizes, rings = self._dimensions(groups)
        if kind in _REDUCING:
            return sent / (link * sum(2 if ring else 1 for ring in rings))
        if kind == "collective-permute":
            return sent * self._longest_hop(groups) / link
        held = sent * groups.shape[1] / (groups.shape[1] - 1)
        shares = [size / (8 if ring else 4) for size, ring in zip(sizes, rings, strict=True)]
        return float(held * max(shares) / link)

    def _dimensions(self, groups: NDArray[np.int64]) -> tuple[list[int], list[bool]]:
        """Returns the size of each dimension that the first group spans, and whether it is a ring.

        A group of fewer dimensions than it has devices for, such as every other device of a row,
        passes the links between its members as if they were its own.
        """
        extent = self.places.max(axis=0) + 1
        places = self.places[groups[0]]
        spanned = [axis for axis in range(places.shape[1]) if len(np.unique(places[:, axis])) > 1]
        sizes = [len(np.unique(places[:, axis])) for axis in spanned]
        rings = [
            size == extent[axis] and size % self.chip.torus_wraps == 0
            for axis, size in zip(spanned, sizes, strict=True)
        ]
        return sizes or [1], rings or [False]

    def _longest_hop(self, pairs: NDArray[np.int64]) -> int:
        extent = self.places.max(axis=0) + 1
        apart = np.abs(self.places[pairs[:, 0]] - self.places[pairs[:, 1]])
        around = np.where(extent % self.chip.torus_wraps == 0, extent - apart, apart)
        return max(1, int(np.minimum(apart, around).sum(axis=1).max()))


def network_of(target: Target, mesh: Mesh | None = None) -> Network:
    """Returns the network under a mesh over the target's devices.

    Args:
        target: what it is.
        mesh: over `target.devices`. Without it, positions are in the order of domains, and within a
            torus in the order of its coordinates, which is as near to a cube as can be.
    """
    order = np.arange(target.count)
    if mesh is not None and target.devices is not None:
        numbers = {device.id: number for number, device in enumerate(target.devices)}
        order = np.array([numbers[device.id] for device in mesh.devices.flat])
    places = np.zeros((len(order), 0), np.int64)
    if target.chip.torus:
        known = [getattr(device, "coords", None) for device in target.devices or ()]
        if known and known[0] is not None:
            everywhere = np.array(known)
        else:
            shape = nearly_cubic(target.domain, target.chip.torus)
            within = np.arange(target.count) % target.domain
            everywhere = np.stack(np.unravel_index(within, shape), axis=1)
        places = everywhere[order]
    return Network(target.chip, order // target.domain, places)


def nearly_cubic(count: int, dimensions: int) -> tuple[int, ...]:
    """Returns `dimensions` factors of `count` as equal as can be, the largest last."""
    if dimensions == 1:
        return (count,)
    root = round(count ** (1 / dimensions))
    first = next(size for size in range(max(root, 1), 0, -1) if count % size == 0)
    shape = (first, *nearly_cubic(count // first, dimensions - 1))
    assert prod(shape) == count
    return tuple(sorted(shape))


def traffic(collectives: Iterable[Collective], network: Network) -> tuple[Traffic, ...]:
    """Adds up collectives of one kind over the same axes, those that take longest first."""
    sums: dict[tuple[str, tuple[str, ...], str], list[tuple[float, float, float | None]]] = {}
    for each in collectives:
        where = "slow" if network.spans_domains(each.groups) else "fast"
        seconds = network.seconds(each.kind, each.groups, each.sent)
        total = None if seconds is None else seconds * each.count
        sums.setdefault((each.kind, each.axes, where), []).append((each.count, each.bytes, total))
    found = [
        Traffic(kind, axes, round(count), round(size), where, total)
        for (kind, axes, where), parts in sums.items()
        for count, size, total in [_added(parts)]
    ]
    return tuple(sorted(found, key=lambda each: (-(each.seconds or 0), -each.bytes)))


def _added(
    parts: list[tuple[float, float, float | None]],
) -> tuple[float, float, float | None]:
    known = [seconds for _, _, seconds in parts if seconds is not None]
    total = sum(known) if len(known) == len(parts) else None
    return sum(part[0] for part in parts), sum(part[1] for part in parts), total
