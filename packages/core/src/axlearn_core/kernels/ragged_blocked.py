"""Ragged matmul for CPUs: dense products of blocks of rows, and none of a row by a foreign matrix.

Blocks are read where their group's rows lie: no copy is padded to whole blocks. The last block of
a group reads on into the next group, whose rows it computes in vain and does not write. How many
blocks there are is known only when running, so jax could not derive the backward pass, which is
written out; it is made of loops of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from axlearn_core.kernels.ragged import RaggedMatmulInputs, RaggedMatmulSpec

# Rows of a block: as many of the first as a group fills, then of the second. Measured on CPUs:
# large blocks multiply faster, small ones waste less at a group's end.
_BLOCK_SIZES = (256, 64)

BlockStep = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(carry, first row, [block, 1] bool: whether a row is the group's) -> carry."""


class BlockedRaggedMatmul:
    """Any sizes, on a CPU."""

    priority = 10

    def supports(self, spec: RaggedMatmulSpec) -> str | None:
        if spec.platform != "cpu":
            return f"loops whose length only the data tell are for cpus, this is {spec.platform}"
        if spec.rows == 0:
            return "there are no rows"
        return None

    def __call__(self, spec: RaggedMatmulSpec, inputs: RaggedMatmulInputs) -> jax.Array:
        return _multiply(*inputs)


@jax.custom_vjp
def _multiply(rows: jax.Array, weights: jax.Array, group_sizes: jax.Array) -> jax.Array:
    return _products(rows, weights, group_sizes, "ri,io->ro")


def _forward(
    rows: jax.Array, weights: jax.Array, group_sizes: jax.Array
) -> tuple[jax.Array, RaggedMatmulInputs]:
    inputs = RaggedMatmulInputs(rows, weights, group_sizes)
    return _multiply(*inputs), inputs


def _backward(inputs: RaggedMatmulInputs, gradient: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    rows, weights, group_sizes = inputs
    of_rows = _products(gradient, weights, group_sizes, "ro,io->ri")
    return of_rows, _outer_products(rows, gradient, group_sizes), None


_multiply.defvjp(_forward, _backward)


def _products(
    rows: jax.Array, weights: jax.Array, group_sizes: jax.Array, formula: str
) -> jax.Array:
    """Multiplies every row by its group's matrix, as `formula` says for the rows of a block."""

    def group(
        carry: tuple[jax.Array, jax.Array], weight_and_size: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        output, start = carry
        weight, size = weight_and_size

        def block(output: jax.Array, first: jax.Array, own: jax.Array) -> jax.Array:
            product = jnp.einsum(
                formula, _read(rows, first, own), weight, preferred_element_type=_wide(rows)
            )
            product = jnp.where(own, product.astype(output.dtype), _read(output, first, own))
            return jax.lax.dynamic_update_slice(output, product, (first, jnp.int32(0)))

        return (_over_blocks(block, output, len(rows), start, size), start + size), None

    product = jax.eval_shape(
        lambda rows, weight: jnp.einsum(formula, rows, weight), rows, weights[0]
    )
    initial = jnp.zeros(product.shape, product.dtype), jnp.int32(0)
    (output, _), _ = jax.lax.scan(group, initial, (weights, group_sizes))
    return output


def _outer_products(rows: jax.Array, gradient: jax.Array, group_sizes: jax.Array) -> jax.Array:
    """Sums rows[r]^T gradient[r] over each group; [groups, in, out]."""

    def group(start: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
        def block(total: jax.Array, first: jax.Array, own: jax.Array) -> jax.Array:
            mine = jnp.where(own, _read(rows, first, own), 0)
            return total + jnp.einsum(
                "ri,ro->io", mine, _read(gradient, first, own), preferred_element_type=total.dtype
            )

        total = jnp.zeros((rows.shape[1], gradient.shape[1]), _wide(rows))
        total = _over_blocks(block, total, len(rows), start, size)
        return start + size, total.astype(rows.dtype)

    return jax.lax.scan(group, jnp.int32(0), group_sizes)[1]


def _over_blocks(
    step: BlockStep, carry: jax.Array, num_rows: int, start: jax.Array, count: jax.Array
) -> jax.Array:
    """Takes a step for each block of the `count` rows from `start` on."""
    stop = start + count
    large, small = (min(size, num_rows) for size in _BLOCK_SIZES)
    whole = count // large
    rest = start + whole * large

    def at(begin: jax.Array, size: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        def turn(index: jax.Array, carry: jax.Array) -> jax.Array:
            needed = begin + index * size
            first = jnp.minimum(needed, num_rows - size)  # at the end, some rows are read again
            places = first + jnp.arange(size)
            return step(carry, first, ((places >= needed) & (places < stop))[:, None])

        return turn

    carry = jax.lax.fori_loop(0, whole, at(start, large), carry)
    carry = jax.lax.fori_loop(0, (stop - rest + small - 1) // small, at(rest, small), carry)
    return carry


def _read(rows: jax.Array, first: jax.Array, own: jax.Array) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(rows, first, len(own))


def _wide(rows: jax.Array) -> jnp.dtype:
    return jnp.promote_types(rows.dtype, jnp.float32)
