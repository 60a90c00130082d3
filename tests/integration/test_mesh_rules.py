"""What the hardware packages' rules make of the registered experiments, without any hardware."""

from __future__ import annotations

import math
from typing import Any

import pytest
from jax.sharding import AbstractMesh

from axlearn_core.hardware import FitRemat, backend_of, load_mesh_rule, select_mesh_rule
from axlearn_core.hardware.fit_mesh import BYTES_PER_PARAMETER
from axlearn_core.module import flatten_paths
from axlearn_core.parallel import infer_mesh_shape, parameter_shardings
from axlearn_core.plugins import get_registry

# The smallest machines that are sensible for a model's size, and larger ones.
MACHINES = {
    "text.llama-85m": ["gpu-l4-1", "gpu-h100-8", "gpu-h100-64", "tpu-v5e-8", "tpu-v5p-64"],
    "text.llama-1b": ["gpu-a100-40-8", "gpu-l4-4", "gpu-h100-64", "tpu-v5e-16", "tpu-v6e-256"],
    "published.llama2-7b": ["gpu-h100-8", "gpu-h100-256", "tpu-v5p-512", "tpu-v5e-1024"],
    "published.llama2-70b": ["gpu-h100-64", "gpu-h100-2048", "tpu-v5p-1024", "tpu-v5p-8192"],
    "published.llama3-8b": ["gpu-h200-8", "gpu-gb200-64", "tpu-v6e-64", "tpu-7x-128"],
    "published.qwen3-30b-a3b": ["gpu-h100-64", "gpu-b200-16", "tpu-v5p-128", "tpu-7x-2048"],
    "published.deepseek-v3": ["gpu-h100-1024", "gpu-b200-256", "tpu-v5p-2048", "tpu-v5p-8192"],
    "published.afm-on-device": ["gpu-h100-8", "gpu-h100-128", "tpu-v5p-2048", "tpu-v5e-256"],
    "published.afm-on-device-2025": ["gpu-h100-8", "tpu-v5p-512", "tpu-v6e-1024"],
    "published.afm-draft-2025": ["gpu-l4-1", "gpu-h100-8", "tpu-v5e-8"],
}


@pytest.fixture(autouse=True)
def without_remat(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recomputed needs a trace, and has tests of its own (test_recipes.py)."""
    monkeypatch.setattr(FitRemat, "__call__", lambda self, cfg: cfg)


CASES = [(name, machine) for name, machines in MACHINES.items() for machine in machines]


def ruled(experiment: str, machine: str) -> tuple[Any, int, int]:
    """Returns the config as the machine's rule changes it, the devices, and the memory of each."""
    registry = get_registry()
    rule = select_mesh_rule(registry, machine)
    platform, _, rest = machine.partition("-")
    chip, _, count = rest.rpartition("-")
    backend = backend_of(platform, registry)
    assert rule is not None and backend is not None
    (memory,) = (c.memory_bytes for c in backend.chips if c.name == chip)
    assert memory is not None
    modifier = load_mesh_rule(rule, device_count=int(count), memory_bytes=memory)
    return modifier(registry.experiment(experiment)()), int(count), memory


@pytest.mark.parametrize(("experiment", "machine"), CASES)
def test_everything_divides_and_the_state_fits(experiment: str, machine: str) -> None:
    cfg, count, memory = ruled(experiment, machine)
    between = infer_mesh_shape(cfg.slow_mesh_shape, math.prod(cfg.slow_mesh_shape.values()))
    within = infer_mesh_shape(cfg.mesh_shape, count // math.prod(between.values()))
    sizes = {axis: size * between[axis] for axis, size in within.items()}
    assert math.prod(sizes.values()) == count
    assert cfg.input.batch_size % math.prod(sizes[a] for a in ("data", "expert", "fsdp")) == 0

    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    specs = cfg.model.clone().instantiate(name="model").parameter_specs()
    placed = flatten_paths(parameter_shardings(specs, mesh, cfg.sharding_rules))  # or it raises
    on_one = sum(
        math.prod(placed[path].shard_shape(spec.shape))
        for path, spec in flatten_paths(specs).items()
    )
    assert BYTES_PER_PARAMETER * on_one < memory
