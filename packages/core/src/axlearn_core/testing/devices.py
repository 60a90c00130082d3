"""Devices for tests of what is spread over several."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import jax

FLAG = "--xla_force_host_platform_device_count=8"


def eight_devices() -> list[jax.Device]:
    """Returns 8 devices; skips the test that calls it where there are fewer."""
    import jax

    devices = jax.devices()
    if len(devices) < 8:
        given = os.environ.get("XLA_FLAGS")
        pytest.skip(
            f"needs 8 devices, and jax has {len(devices)} (XLA_FLAGS is {given!r}): set "
            f"XLA_FLAGS={FLAG} and JAX_PLATFORMS=cpu in the environment, or in the conftest.py "
            "beside pyproject.toml, before jax is imported"
        )
    return devices[:8]
