"""Tensors that are loaded, or made, when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

_NO_SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType({})


class LazyTensors(Mapping[str, Any]):
    """Calls a function at each reading, and keeps nothing.

    `LazyTensors({name: partial(file.get_tensor, name) for name in file.keys()})` reads an open
    safetensors file; several files are one mapping in the same way.

    Attributes:
        shapes: of the tensors, where they are known before.
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], Any]],
        shapes: Mapping[str, tuple[int, ...]] = _NO_SHAPES,
    ):
        self._loaders = dict(loaders)
        self.shapes = dict(shapes)

    def __getitem__(self, name: str) -> Any:
        return self._loaders[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def __contains__(self, name: object) -> bool:
        return name in self._loaders  # without loading it

    def renamed(self, rename: Callable[[str], str]) -> LazyTensors:
        """Returns the same by other names."""
        return LazyTensors(
            {rename(name): load for name, load in self._loaders.items()},
            {rename(name): shape for name, shape in self.shapes.items()},
        )

    def cast(self, dtype: str) -> LazyTensors:
        """Returns the same in another dtype."""

        def casting(load: Callable[[], Any]) -> Callable[[], Any]:
            return lambda: load().astype(dtype, copy=False)

        return LazyTensors(
            {name: casting(load) for name, load in self._loaders.items()}, self.shapes
        )
