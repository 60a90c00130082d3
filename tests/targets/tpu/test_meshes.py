"""Meshes over TPUs that are only compiled for."""

from __future__ import annotations

import jax
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.parallel import make_mesh, network_domains

pytest.importorskip("libtpu")
from jax.experimental import topologies


def two_slices() -> list[jax.Device]:
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2", num_slices=2)
    return list(topology.devices)


def test_a_slice_is_a_network_domain() -> None:
    slices = [[device.slice_index for device in domain] for domain in network_domains(two_slices())]
    assert slices == [[0] * 4, [1] * 4]


def test_the_slow_axis_runs_over_slices_and_neighbours_are_near() -> None:
    mesh = make_mesh({"fsdp": -1}, two_slices(), slow={"data": -1})
    assert (mesh.shape["data"], mesh.shape["fsdp"]) == (2, 4)
    for index, ring in enumerate(mesh.devices.reshape(2, 4)):
        assert {device.slice_index for device in ring} == {index}
        for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
            steps = [abs(a - b) for a, b in zip(one.coords, other.coords, strict=True)]
            assert sum(steps) == 1


def test_slow_parts_of_one_slice_are_refused() -> None:
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    with pytest.raises(ConfigError, match="needs 2 network domains, and there are 1"):
        make_mesh({"fsdp": -1}, topology.devices, slow={"data": 2})
