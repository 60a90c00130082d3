"""A hardware package brings all that jax needs for its platform."""

import pytest

from axlearn_hardware_gpu import NvidiaGPU
from axlearn_hardware_tpu import TPU


@pytest.mark.parametrize("backend", [NvidiaGPU(), TPU()], ids=lambda backend: backend.platform)
def test_nothing_is_missing(backend):
    assert backend.missing() is None


def test_the_library_that_reads_gpus_is_there():
    pytest.importorskip("jax_cuda12_plugin")
    import pynvml

    assert callable(pynvml.nvmlInit)
