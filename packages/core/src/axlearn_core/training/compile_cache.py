"""Compiled programs, kept on disk for the next process that compiles the same."""

from __future__ import annotations

import os

import jax
from jax.experimental.compilation_cache import compilation_cache


def use_compile_cache(folder: str | None) -> None:
    """Keeps compiled programs in a folder, for the next process that compiles the same."""
    if folder is None:
        return
    path = os.path.expanduser(folder)
    if path != jax.config.values["jax_compilation_cache_dir"]:
        compilation_cache.reset_cache()  # jax stays with the first folder otherwise
        jax.config.update("jax_compilation_cache_dir", path)
    # By default jax keeps nothing that takes less than a second; a start has many of those.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
