"""Rows that go to the devices of their groups and come back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.parallel import DEFAULT_RULES, Exchange, Placement, make_mesh, per_device, placing

DEVICES, GROUPS, ROWS, DIM = 4, 8, 6, 2


def placement() -> Placement:
    return Placement(make_mesh({"expert": DEVICES}, jax.devices()[:DEVICES]), DEFAULT_RULES)


@jax.jit
def there_and_back(rows: jax.Array, sizes: jax.Array) -> Any:
    def own(rows: jax.Array, sizes: jax.Array) -> Any:
        exchange = Exchange(sizes[0], "expert", rows=ROWS)
        arrived = exchange.there(rows[0])
        returned = exchange.back(arrived, ROWS)
        return arrived[None], returned[None], exchange.sizes[None]

    return per_device(own, [("batch", None, None), ("batch", None)], [("batch",)] * 3)(rows, sizes)


@pytest.mark.parametrize("seed", range(4))
def test_each_row_comes_to_its_group_and_returns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    skew = rng.dirichlet(np.full(GROUPS, 0.3))
    sizes = np.stack([rng.multinomial(ROWS, skew) for _ in range(DEVICES)]).astype(np.int32)
    rows = rng.normal(size=(DEVICES, ROWS, DIM)).astype(np.float32)
    groups = np.stack([np.repeat(np.arange(GROUPS), size) for size in sizes])
    with placing(placement()):
        arrived, returned, arrived_sizes = there_and_back(rows, sizes)
    np.testing.assert_array_equal(returned, rows)
    np.testing.assert_array_equal(arrived_sizes.reshape(-1), sizes.sum(axis=0))
    for device, got in enumerate(np.asarray(arrived)):
        own = range(2 * device, 2 * device + 2)
        want = np.concatenate([rows[s][groups[s] == g] for g in own for s in range(DEVICES)])
        np.testing.assert_array_equal(got[: len(want)], want)
        assert not got[len(want) :].any()


def test_the_gradient_travels_the_other_way() -> None:
    sizes = np.full((DEVICES, GROUPS), 0, np.int32)
    sizes[:, 1] = ROWS  # all to the first device
    rows = np.ones((DEVICES, ROWS, DIM), np.float32)

    def weighted(rows: jax.Array) -> jax.Array:
        arrived, returned, _ = there_and_back(rows, sizes)
        return jnp.sum(arrived[0] * jnp.arange(DEVICES * ROWS)[:, None]) + returned.sum()

    with placing(placement()):
        gradient = jax.jit(jax.grad(weighted))(rows)
    expected = 1 + np.arange(DEVICES * ROWS).reshape(DEVICES, ROWS)
    np.testing.assert_array_equal(gradient, np.repeat(expected[..., None], DIM, axis=-1))


def test_groups_that_cannot_be_divided_are_an_error() -> None:
    def own(rows: jax.Array) -> jax.Array:
        return Exchange(jnp.zeros(6, jnp.int32), "expert", rows=ROWS).there(rows)

    with placing(placement()), pytest.raises(UserError, match=r"6 groups .*cannot be divided"):
        per_device(own, [("batch", None)], ("batch", None))(jnp.ones((DEVICES * ROWS, DIM)))
