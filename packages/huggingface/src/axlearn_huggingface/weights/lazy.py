"""Tensors that are loaded, or made, when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class LazyTensors(Mapping[str, Any]):
    """Calls a function at each reading, and keeps nothing.

    `LazyTensors({name: partial(file.get_tensor, name) for name in file.keys()})` reads an open
    safetensors file; several files are one mapping in the same way.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Any]]):
        self._loaders = dict(loaders)

    def __getitem__(self, name: str) -> Any:
        return self._loaders[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def __contains__(self, name: object) -> bool:
        return name in self._loaders  # without loading it
