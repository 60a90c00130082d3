"""A parent that calls a component in every way in which parents call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from axlearn_core.config import ConfigBase
from axlearn_core.module import Layer, remat, scan_layers, vmap_layers

COPIES = 2
"""How many copies of the component `scanned` and `mapped` run, each with its own parameters."""


class Host(Layer):
    """Has the component as its child `layer`; each method calls it in another way."""

    def __init__(
        self,
        config: Layer.Config,
        *,
        component: ConfigBase,
        call: Callable[..., Any],
        sibling: bool = False,
        **place: Any,
    ):
        """Args: call: `(layer, *inputs) -> outputs`; sibling: whether there is another child."""
        super().__init__(config, **place)
        self._call = call
        self.sibling: Noise | None = None
        if sibling:
            self.sibling = self.add_child("sibling", Noise.default_config())
        self.layer: Any = self.add_child("layer", component)

    def plain(self, *inputs: Any) -> Any:
        if self.sibling is not None:
            self.sibling.forward()
        return self._call(self.layer, *inputs)

    def rematerialised(self, *inputs: Any) -> Any:
        return remat(partial(self._call, self.layer))(*inputs)

    def scanned(self, *inputs: Any) -> Any:
        def body(carry: None, _: None) -> tuple[None, Any]:
            return carry, self._call(self.layer, *inputs)

        return scan_layers(self.layer, body, None, count=COPIES)[1]

    def mapped(self, *inputs: Any) -> Any:
        return vmap_layers(self.layer, lambda _: self._call(self.layer, *inputs), count=COPIES)


class Noise(Layer):
    """Draws random numbers and throws them away."""

    def forward(self) -> None:
        jax.random.normal(self.prng_key())
