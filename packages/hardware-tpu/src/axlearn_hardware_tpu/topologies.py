"""Slices that libtpu compiles for without a TPU, and the devices of one or several of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import combinations_with_replacement
from math import prod
from typing import TYPE_CHECKING, Any, Final

from axlearn_core.hardware import Chip, EnvironmentSetting, HardwareError, Topology

if TYPE_CHECKING:
    import jax

# To compile without a TPU, as jax's own tests of ahead-of-time compilation do.
COMPILE_SETTINGS: Final[tuple[EnvironmentSetting, ...]] = (
    EnvironmentSetting(
        "TPU_SKIP_MDS_QUERY", "1", "libtpu must not ask the cloud which TPU is here"
    ),
    EnvironmentSetting("TPU_WORKER_HOSTNAMES", "localhost", "the same"),
    EnvironmentSetting("TPU_ACCELERATOR_TYPE", "", "the same"),
    EnvironmentSetting("ALLOW_MULTIPLE_LIBTPU_LOAD", "1", "others may compile at the same time"),
)


def _slices_2d() -> Iterator[tuple[int, ...]]:
    """Those of https://docs.cloud.google.com/tpu/docs/v6e#configurations."""
    yield from ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))


def _slices_3d(most: int) -> Iterator[tuple[int, ...]]:
    """Parts of a cube of 4x4x4, and of each number of cubes the arrangement nearest to a cube."""
    yield from ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
    best: dict[int, tuple[int, ...]] = {}
    for cubes in combinations_with_replacement(range(1, 10), 3):
        chips = 64 * prod(cubes)
        shape = tuple(4 * size for size in cubes)
        if chips <= most and (chips not in best or sum(shape) < sum(best[chips])):
            best[chips] = shape
    yield from (best[chips] for chips in sorted(best))


def _topologies() -> Iterator[Topology]:
    generations = (  # as libtpu names them, as chips are named here, devices of a chip
        ("v4", "v4", 1, _slices_3d(4096)),
        ("v5e", "v5e", 1, _slices_2d()),
        ("v5p", "v5p", 1, _slices_3d(6144)),
        ("v6e", "v6e", 1, _slices_2d()),
        ("tpu7x", "7x", 2, _slices_3d(9216)),
    )
    for generation, chip, devices, shapes in generations:
        for shape in shapes:
            name = f"{generation}:{'x'.join(map(str, shape))}"
            yield Topology(name, chip, devices * prod(shape))


TOPOLOGIES: Final[tuple[Topology, ...]] = tuple(_topologies())


def topology_options(topology: Topology) -> Mapping[str, Any]:
    """Returns what `get_topology_desc` needs besides the name."""
    options: dict[str, Any] = {}
    if topology.name.partition(":")[2] in ("1x1", "1x1x1"):  # else a host has 2x2 chips
        options["chips_per_host_bounds"] = [1, 1, 1]
    if topology.chip == "v4":  # jax shows both cores of a v4 chip as one device
        options["chip_config_name"] = "megacore"
    return options


def compile_only_devices(chip: Chip, count: int, domain: int) -> Sequence[jax.Device]:
    """Returns the devices of one slice, or of as many slices of `domain` devices as it takes."""
    if find_spec("libtpu") is None:
        raise HardwareError("libtpu, which compiles, is not here: pip install libtpu")
    counts = sorted(t.devices for t in TOPOLOGIES if t.chip == chip.name)
    slices = count // domain
    if domain not in counts or (slices > 1 and domain < counts[-1]):
        full = counts[-1]
        there_are = {*counts, count // full * full, (count // full + 1) * full} - {0}
        near = sorted(there_are, key=lambda other: abs(other - count))[:3]
        raise HardwareError(
            f"there is no slice of {count} {chip.name}; near counts: "
            + ", ".join(map(str, sorted(near)))
        )
    (topology,) = (t for t in TOPOLOGIES if (t.chip, t.devices) == (chip.name, domain))
    import jax
    from jax.experimental import topologies

    options = dict(topology_options(topology))
    if slices > 1:
        options["num_slices"] = slices
    try:
        described = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        )
    except jax.errors.JaxRuntimeError as error:
        raise HardwareError(f"libtpu does not start: {error}") from error
    return sorted(described.devices, key=lambda device: device.id)
