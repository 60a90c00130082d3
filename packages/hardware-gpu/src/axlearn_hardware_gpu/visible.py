"""Which GPUs a process may use."""

from __future__ import annotations

from collections.abc import Mapping


def visible_devices(environment: Mapping[str, str]) -> list[str] | None:
    """Returns the indices and UUIDs in CUDA_VISIBLE_DEVICES, or None if all GPUs are visible.

    As in CUDA, the list ends before the first word that is neither, such as -1.
    """
    value = environment.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    found: list[str] = []
    for word in (word.strip() for word in value.split(",")):
        if not word.isdigit() and not word.startswith(("GPU-", "MIG-")):
            break
        found.append(word)
    return found
