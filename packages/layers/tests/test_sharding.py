"""The whole model on a mesh of 8 virtual devices."""

import jax
import numpy as np
import pytest

from axlearn_core.module import functional
from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    make_mesh,
    parameter_shardings,
    placing,
)


@pytest.mark.parametrize("shape", [{"data": 2, "fsdp": 2, "model": 2}, {"fsdp": 4}])
def test_loss_and_gradients_equal_one_device(make, shape):
    if jax.device_count() < 8:
        pytest.skip("needs 8 virtual devices")
    lm, state = make.build(make.llama(vocab_size=40))
    batch = make.batch(batch=4)

    def loss(state, batch):
        return functional(lm, state=state, prng_key=None, inputs=(batch,))[0].total

    step = jax.value_and_grad(loss)
    expected = jax.jit(step)(state, batch)
    mesh = make_mesh(shape, jax.devices()[: int(np.prod(list(shape.values())))])
    placement = Placement(mesh, DEFAULT_RULES)
    placed = jax.device_put(state, parameter_shardings(lm.parameter_specs(), mesh, DEFAULT_RULES))
    rows = jax.device_put(batch, placement.sharding("batch", "seq"))
    with placing(placement):
        result = jax.jit(step)(placed, rows)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4), result, expected
    )
