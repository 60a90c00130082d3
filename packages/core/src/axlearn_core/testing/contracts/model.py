"""The contract of models."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.testing.contracts.layer import LayerContract
from axlearn_core.testing.contracts.subject import compiled
from axlearn_core.testing.contracts.trees import assert_trees_close


class ModelContract(LayerContract):
    """A layer whose loss a trainer can minimise, batch by micro-batch.

    `inputs` returns one batch, `({"input_ids": ...},)`, of 4 rows. Some of its target weights are
    best not 1. The example must not drop anything at random.
    """

    output_dtype: ClassVar[str | None] = "float32"
    narrow_inputs: ClassVar[bool] = False

    def test_the_weight_is_known_without_running_the_model(self) -> None:
        subject = self.subject()
        (loss, _), (batch,) = subject.results[0], subject.inputs
        np.testing.assert_allclose(subject.host.layer.target_weight(batch), loss.weight, rtol=1e-6)

    def test_micro_batches_add_up_to_the_batch(self) -> None:
        subject = self.subject()
        (batch,) = subject.inputs
        halves = [jax.tree.map(lambda x, i=i: x[i::2], batch) for i in range(2)]
        step = compiled(partial(subject.train, subject.host, "plain"))
        parts = [step(subject.state, (half,))[0] for half in halves]
        together = jax.tree.map(jnp.add, *parts)
        (whole, _), *_ = subject.differentiated
        assert_trees_close(together, whole, tolerance=self.tolerance)

    def test_floating_point_operations_grow_with_the_batch(self) -> None:
        (batch,) = self.subject().inputs
        model = self.config().instantiate()
        shapes = {name: x.shape for name, x in batch.items()}
        doubled = {name: (2 * rows, *rest) for name, (rows, *rest) in shapes.items()}
        one, two = model.flops_per_step(shapes), model.flops_per_step(doubled)
        assert one is None or two == 2 * one > 0
