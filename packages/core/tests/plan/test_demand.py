"""What a device needs, against what theory says of a layer and its gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from axlearn_core.plan.census import Census, take_census
from axlearn_core.plan.demand import Demand, demand
from axlearn_core.plan.labels import Array, Division, labelled

ROWS, EMBED, MLP, LAYERS = 64, 16, 48, 3
RULES = {"batch": ("data", "fsdp"), "embed": "fsdp", "mlp": "model", "vocab": "model"}


def census(function: Any, *arguments: tuple[tuple[int, ...], tuple[str | None, ...]]) -> Census:
    """The first argument is the batch, the others are parameters."""
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape, _ in arguments]
    arrays = [Array(labelled(shape, axes), 4) for shape, axes in arguments]
    names = [None, *(f"weight{i}" for i in range(1, len(arguments)))]
    return take_census(jax.make_jaxpr(function)(*structs), arrays, names)


def needs(taken: Census, **sizes: int) -> Demand:
    return demand(taken.body, Division(sizes, RULES))


def sent(found: Demand) -> dict[tuple[str, tuple[str, ...]], float]:
    total: dict[tuple[str, tuple[str, ...]], float] = {}
    for route, count in found.routes.items():
        if route.sent > 8:  # the loss itself is summed too
            key = (route.kind, route.axes)
            total[key] = total.get(key, 0.0) + route.sent * count
    return total


def loss(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    def layer(x: jax.Array, weights: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return x + jnp.sin(x @ weights[0]) @ weights[1], None

    return jnp.square(jax.lax.scan(layer, x, (up, down))[0]).sum()


@pytest.fixture(scope="module")
def layers() -> Census:
    return census(
        jax.grad(loss, argnums=(1, 2)),
        ((ROWS, EMBED), ("batch", "embed")),
        ((LAYERS, EMBED, MLP), (None, "embed", "mlp")),
        ((LAYERS, MLP, EMBED), (None, "mlp", "embed")),
    )


FORWARD = LAYERS * 2 * 2 * ROWS * EMBED * MLP
LAYER_BYTES = 2 * EMBED * MLP * 4


def test_products_are_counted_in_loops_and_divided_by_all_devices(layers: Census) -> None:
    # Backwards, each product is one for its input and one for its weight.
    assert needs(layers).flops == 3 * FORWARD
    assert needs(layers, data=2, fsdp=2, model=4).flops == 3 * FORWARD / 16


def test_fsdp_gathers_twice_and_scatters_gradients_once(layers: Census) -> None:
    n = 8
    assert sent(needs(layers, fsdp=n)) == {
        ("all-gather", ("fsdp",)): pytest.approx(2 * LAYERS * LAYER_BYTES * (n - 1) / n),
        ("reduce-scatter", ("fsdp",)): pytest.approx(LAYERS * LAYER_BYTES * (n - 1) / n),
    }


def test_data_parallelism_sums_gradients(layers: Census) -> None:
    n = 4
    assert sent(needs(layers, data=n)) == {
        ("all-reduce", ("data",)): pytest.approx(2 * LAYERS * LAYER_BYTES * (n - 1) / n)
    }


def test_tensor_parallelism_sums_activations_once_each_way(layers: Census) -> None:
    n = 4
    activations = ROWS * EMBED * 4
    assert sent(needs(layers, model=n)) == {
        ("all-reduce", ("model",)): pytest.approx(2 * LAYERS * 2 * activations * (n - 1) / n)
    }


def test_what_the_backward_pass_needs_is_kept_for_every_layer(layers: Census) -> None:
    # Of each layer its input, and of sin(h) the sine and the cosine.
    kept = LAYERS * (ROWS * EMBED + 2 * ROWS * MLP) * 4
    gradients = LAYERS * LAYER_BYTES
    assert kept + gradients <= needs(layers).peak <= 1.5 * (kept + gradients)


def test_activations_are_what_the_backward_pass_reads(layers: Census) -> None:
    # Of each layer its input, and of sin(h) the sine and the cosine; then the last layer's output.
    # Neither the gradients nor what exists within a layer are among it.
    entries = LAYERS * (ROWS * EMBED + 2 * ROWS * MLP) + ROWS * EMBED
    assert sum(array.bytes for array in layers.kept) == 4 * entries


def test_activations_are_divided_as_their_axes_are(layers: Census) -> None:
    division = Division({"data": 2, "model": 4}, RULES, accumulation=8)
    wide = LAYERS * 2 * ROWS * MLP / 4  # "mlp" lies over "model"
    narrow = (LAYERS + 1) * ROWS * EMBED
    assert sum(map(division.bytes, layers.kept)) == 4 * (wide + narrow) / 2 / 8


def test_a_parameter_that_no_round_changes_is_gathered_once() -> None:
    def repeated(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (x @ weight, None), x, length=5)[0]

    taken = census(repeated, ((ROWS, EMBED), ("batch", None)), ((EMBED, EMBED), ("embed", None)))
    assert sent(needs(taken, fsdp=2)) == {("all-gather", ("fsdp",)): EMBED * EMBED * 4 / 2}


def test_a_table_is_looked_up_where_its_rows_lie() -> None:
    def vectors(ids: jax.Array, table: jax.Array) -> jax.Array:
        return table[ids.astype(jnp.int32)]

    taken = census(vectors, ((ROWS,), ("batch",)), ((96, EMBED), ("vocab", "embed")))
    rows = ROWS * EMBED * 4
    assert sent(needs(taken, fsdp=4)) == {("all-to-all", ("fsdp",)): rows / 4 * 3 / 4}
    assert sent(needs(taken, model=4)) == {("all-reduce", ("model",)): 2 * rows * 3 / 4}
