"""The mesh that is chosen from the model, the batch and the memory."""

from __future__ import annotations

from typing import Any

import pytest

from axlearn_core.hardware import FitMesh
from axlearn_core.module import ParameterSpec, zeros
from axlearn_core.testing.tiny import BigramModel, experiment

GIB = 2**30


class TwoMatrices(BigramModel):
    """A matrix of each kind: 4096 x 4096, and 64 experts of 1024 x 4096."""

    class Config(BigramModel.Config):
        experts: int = 0

    def own_parameters(self) -> dict[str, ParameterSpec]:
        parameters = {"dense": ParameterSpec((4096, 4096), ("embed", "mlp"), zeros)}
        if self.config.experts:
            shape = (self.config.experts, 1024, 4096)
            parameters["experts"] = ParameterSpec(shape, ("expert", "embed", "mlp"), zeros)
        return parameters


def fitted(
    devices: int,
    *,
    domain: int | None = 8,
    rows: int = 1024,
    experts: int = 0,
    memory: int | None = 80 * GIB,
    fill: float = 0.5,
) -> Any:
    cfg: Any = experiment()
    cfg.model = TwoMatrices.default_config().set(vocab_size=26, experts=experts)
    cfg.input.batch_size = rows
    rule = FitMesh.Config(domain=domain, fill=fill, device_count=devices, memory_bytes=memory)
    return rule.instantiate()(cfg)


def meshes(cfg: Any) -> tuple[dict[str, int], dict[str, int]]:
    return cfg.mesh_shape, cfg.slow_mesh_shape


def test_parameters_are_sharded_within_a_domain_and_data_between_domains():
    assert meshes(fitted(64)) == ({"fsdp": 8}, {"data": 8})


def test_one_domain_needs_no_slow_mesh():
    assert meshes(fitted(64, domain=None)) == ({"fsdp": 64}, {})


def test_parameters_that_do_not_fit_are_sharded_between_domains_too():
    # 16.8M parameters of 16 bytes over 8 devices take 32 MiB of each.
    assert meshes(fitted(64, memory=40 * 2**20)) == ({"fsdp": 8}, {"data": 4, "fsdp": 2})


def test_without_a_fast_network_data_is_split_as_far_as_the_model_fits():
    assert meshes(fitted(4, domain=1)) == ({"data": 4}, {})
    assert meshes(fitted(4, domain=1, memory=300 * 2**20)) == ({"data": 2, "fsdp": 2}, {})


def test_fewer_rows_than_devices_lead_to_tensor_parallelism():
    assert meshes(fitted(64, rows=32)) == ({"fsdp": 4, "model": 2}, {"data": 8})


def test_experts_take_a_domain_first():
    assert meshes(fitted(64, experts=64)) == ({"expert": 8}, {"data": 8})


def test_half_a_domain_is_one():
    assert meshes(fitted(4)) == ({"fsdp": 4}, {})


def test_unknown_memory_counts_as_enough():
    assert meshes(fitted(64, memory=None)) == ({"fsdp": 8}, {"data": 8})


def test_where_nothing_divides_the_parameters_are_sharded_over_all():
    assert meshes(fitted(24, domain=None, rows=7)) == ({"fsdp": -1}, {})


@pytest.mark.parametrize("devices", [1, 2, 8, 64, 512])
def test_all_devices_are_used(devices: int):
    cfg = fitted(devices)
    count = 1
    for size in (*cfg.mesh_shape.values(), *cfg.slow_mesh_shape.values()):
        count *= size
    assert count == devices
