"""Programs for GPUs, compiled without one. Each test here needs jax[cuda12], and no driver."""

import pytest

from axlearn_core.plan.target import parse_target
from axlearn_core.plugins import get_registry

pytest.importorskip("jax_cuda12_plugin", reason="pip install 'jax[cuda12]'")


@pytest.fixture(scope="session")
def h100s():
    """Eight H100 to compile for."""
    return parse_target("gpu-h100-8", get_registry()).with_devices().devices
