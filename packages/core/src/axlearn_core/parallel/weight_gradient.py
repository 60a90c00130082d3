"""The dtype in which devices exchange the gradients of weights.

A weight's gradient sums over tokens, of which each device has some. The compiler adds up the
devices' parts where the matrix product ends, so its result has to be of the dtype to exchange:
a cast of the gradient comes after that, too late.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

_dtype: contextvars.ContextVar[str | None] = contextvars.ContextVar("exchanged", default=None)


@contextlib.contextmanager
def exchanging(dtype: str | None) -> Iterator[None]:
    """Within the block (while tracing), weights' gradients are exchanged so; None: as computed."""
    token = _dtype.set(dtype)
    try:
        yield
    finally:
        _dtype.reset(token)


def weight_product(x: jax.Array, weight: jax.Array, count: int) -> jax.Array:
    """Computes x W, a sum over the last `count` dimensions of x and the first of the weight.

    The weight's gradient is summed in float32 at least, leaves its product in the dtype of the
    surrounding `exchanging`, is added up over devices in it, and only then rounded to W's.
    """
    dtype = _dtype.get()
    if dtype is None or dtype == weight.dtype.name:
        return jnp.tensordot(x, weight, axes=count)
    return _contract(x, weight, count, dtype)


def weight_rows(table: jax.Array, numbers: jax.Array) -> jax.Array:
    """Returns rows [..., dim] of a table [rows, dim], with a gradient as of `weight_product`."""
    dtype = _dtype.get()
    if dtype is None or dtype == table.dtype.name:
        return table[numbers]
    return _rows(table, numbers, dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rows(table: jax.Array, numbers: jax.Array, dtype: str) -> jax.Array:
    return table[numbers]


def _rows_forward(
    table: jax.Array, numbers: jax.Array, dtype: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return table[numbers], (table, numbers)


def _rows_backward(
    dtype: str, operands: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, None]:
    table, numbers = operands
    total = jnp.zeros(table.shape, dtype).at[numbers].add(gradient.astype(dtype))
    return total.astype(table.dtype), None


_rows.defvjp(_rows_forward, _rows_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _contract(x: jax.Array, weight: jax.Array, count: int, dtype: str) -> jax.Array:
    return jnp.tensordot(x, weight, axes=count)


def _forward(
    x: jax.Array, weight: jax.Array, count: int, dtype: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _contract(x, weight, count, dtype), (x, weight)


def _backward(
    count: int, dtype: str, operands: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = operands
    rows, outputs = tuple(range(x.ndim - count)), weight.ndim - count
    columns = tuple(range(gradient.ndim - outputs, gradient.ndim))
    of_x = jax.lax.dot_general(
        gradient, weight, ((columns, tuple(range(count, weight.ndim))), ((), ()))
    )
    of_weight = jax.lax.dot_general(
        x, gradient, ((rows, rows), ((), ())), preferred_element_type=dtype
    )
    return of_x, of_weight.astype(weight.dtype)


_contract.defvjp(_forward, _backward)
