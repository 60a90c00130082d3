"""The contract of sequence layers, for authors of such layers to inherit."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from axlearn_core.module import functional
from axlearn_core.testing.contracts import LayerContract, assert_trees_close
from axlearn_core.testing.contracts.subject import compiled
from axlearn_layers.sequence import SequenceInfo

__all__ = ["SequenceContract"]

SEQ = 8
DOCUMENT = 3  # each row holds two documents of so many tokens, and padding
PIECES = (3, 6, 7)  # where the pieces end: a prompt, as many again, two tokens one by one


class SequenceContract(LayerContract):
    """A sequence layer gives a token the same output, whatever it is computed together with.

    The inputs are packed rows, so that all tests of `LayerContract` see segments.
    """

    def inputs(self, rng: np.random.Generator) -> tuple[Any, ...]:
        x = rng.normal(size=(4, SEQ, self.config().input_dim)).astype(np.float32)
        lengths = [DOCUMENT, DOCUMENT, SEQ - 2 * DOCUMENT]
        segments = np.repeat([1, 2, 0], lengths).astype(np.int32)
        positions = np.concatenate([np.arange(length) for length in lengths], dtype=np.int32)
        return x, SequenceInfo(jnp.tile(positions, (4, 1)), jnp.tile(segments, (4, 1)))

    def test_packed_documents_equal_separate_ones(self) -> None:
        subject = self.subject()
        x, _ = subject.inputs
        parts = [slice(0, DOCUMENT), slice(DOCUMENT, 2 * DOCUMENT)]
        separate = np.concatenate([x[:, part] for part in parts])
        inputs = (separate, SequenceInfo())
        alone, _ = compiled(partial(subject.run, "plain"))(subject.state, inputs)
        packed, _ = subject.results[0]
        together = np.concatenate([packed[:, part] for part in parts])
        assert_trees_close(together, alone, tolerance=self.tolerance)

    def test_extending_piece_by_piece_equals_the_whole(self) -> None:
        subject = self.subject()
        layer, state = subject.host.layer, subject.state.get("layer", {})
        x, _ = subject.inputs

        @compiled
        def extend(state: Any, *inputs: Any) -> Any:
            return functional(layer, state=state, prng_key=None, inputs=inputs, method="extend")[0]

        cache = layer.init_cache(x.shape[0], SEQ, "float32")
        pieces = []
        for piece in np.split(np.arange(SEQ), PIECES):
            info = SequenceInfo(positions=jnp.tile(piece, (x.shape[0], 1)))
            y, cache = extend(state, x[:, piece], cache, info)
            pieces.append(y)
        whole, _ = compiled(partial(subject.run, "plain"))(subject.state, (x, SequenceInfo()))
        assert_trees_close(np.concatenate(pieces, axis=1), whole, tolerance=self.tolerance)
