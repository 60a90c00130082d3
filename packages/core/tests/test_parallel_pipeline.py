"""Schedules of pipelines: who works on what when, and what comes of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.parallel import (
    PipelineShape,
    Work,
    circular,
    join_rows,
    microbatch_of,
    one_forward_one_backward,
    split_rows,
)

SHAPES = [
    PipelineShape(1, 3),
    PipelineShape(2, 3),
    PipelineShape(4, 2),
    PipelineShape(3, 6, 2),
    PipelineShape(1, 2, 3),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_stage_does_every_piece_of_work_once(shape: PipelineShape) -> None:
    done = np.full((shape.stages, shape.repeats, shape.microbatches), -1)
    for tick in range(shape.ticks):
        for stage in range(shape.stages):
            _, repeat, microbatch = map(int, shape.work(tick, stage))
            if 0 <= microbatch < shape.microbatches:
                assert done[stage, repeat, microbatch] == -1
                done[stage, repeat, microbatch] = tick
    np.testing.assert_array_equal(done, shape.done_at())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_chunk_follows_the_one_before_it_by_a_tick(shape: PipelineShape) -> None:
    by_chunk = np.swapaxes(shape.done_at(), 0, 1).reshape(-1, shape.microbatches)
    np.testing.assert_array_equal(np.diff(by_chunk, axis=0), 1)


@pytest.mark.parametrize(
    ("shape", "bubble"),
    [
        (PipelineShape(1, 1), 0),
        (PipelineShape(4, 4), 3 / 7),
        (PipelineShape(4, 12), 3 / 15),
        (PipelineShape(4, 12, 2), 3 / 27),
    ],
)
def test_the_bubble_shrinks_with_microbatches_and_repeats(
    shape: PipelineShape, bubble: float
) -> None:
    assert shape.bubble == bubble
    idle = shape.ticks - shape.repeats * shape.microbatches
    assert idle / shape.ticks == bubble


def test_rounds_of_parts_of_a_group_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(=5\) must be a multiple of stages \(=2\) where"):
        PipelineShape(2, 5, 2)


def test_sizes_below_1_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"microbatches \(=0\) must be at least 1"):
        PipelineShape(2, 0)


def test_microbatches_take_every_nth_row() -> None:
    x = np.arange(12).reshape(6, 2)
    parts = split_rows(jnp.asarray(x), 3)
    for index in range(3):
        np.testing.assert_array_equal(parts[index], x[index::3])
    np.testing.assert_array_equal(join_rows(parts), x)


# What is computed. Stage s in round r applies x -> tanh(x @ w[s, r]).


def example(shape: PipelineShape) -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(0)
    width = 3
    weights = rng.normal(size=(shape.stages, shape.repeats, width, width))
    x = rng.normal(size=(shape.microbatches, 2, 4, width))
    return {"w": jnp.float32(weights)}, np.float32(x)


def one_after_the_other(params: dict[str, Any], x: jax.Array) -> jax.Array:
    weights = jnp.swapaxes(params["w"], 0, 1)
    for weight in weights.reshape(-1, *weights.shape[2:]):
        x = jnp.tanh(x @ weight)
    return x


def layer(params: dict[str, Any], work: Work, x: jax.Array) -> tuple[jax.Array, Any]:
    return jnp.tanh(x @ params["w"][work.repeat]), {"microbatch": work.microbatch, "sum": x.sum()}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_circular_pipeline_computes_what_its_stages_do_one_after_the_other(
    shape: PipelineShape,
) -> None:
    params, x = example(shape)

    @jax.jit
    def piped(params: Any, x: Any) -> Any:
        return jnp.sum(jnp.square(circular(layer, params, x, shape)[0]))

    @jax.jit
    def plain(params: Any, x: Any) -> Any:
        return jnp.sum(jnp.square(one_after_the_other(params, x)))

    got, expected = (
        jax.value_and_grad(function, argnums=(0, 1))(params, x) for function in (piped, plain)
    )
    # Float32 sums of 10 numbers, in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, expected)


def test_side_outputs_are_those_of_work_and_not_of_the_bubble() -> None:
    shape = PipelineShape(3, 6, 2)
    params, x = example(shape)
    _, side = jax.jit(lambda p, x: circular(layer, p, x, shape))(params, x)
    for stage, repeat in np.ndindex(3, 2):
        np.testing.assert_array_equal(side["microbatch"][stage, repeat], np.arange(6))
    np.testing.assert_allclose(side["sum"][0, 0], x.sum(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.repeats == 1], ids=str)
def test_one_forward_one_backward_has_the_gradients_of_the_loss(shape: PipelineShape) -> None:
    params, x = example(shape)
    params |= {"count": jnp.arange(shape.stages)}  # no gradient
    outer = {"scale": jnp.float32(1.5), "head": jnp.float32([1, -2, 0.5]), "unit": jnp.int32(2)}

    def begin(outer: Any, data: Any, microbatch: jax.Array) -> Any:
        x = outer["scale"] * microbatch_of(data, microbatch)
        return x, x.sum()

    def stage(params: Any, data: Any, work: Work, x: jax.Array) -> Any:
        y, side = layer(params, work, x)
        return (y, jnp.sum(y**2) * params["count"]), side

    def finish(outer: Any, data: Any, microbatch: jax.Array, y: jax.Array) -> Any:
        loss = jnp.sum(jnp.sin(y @ outer["head"])) * outer["unit"]
        return loss, {"loss": loss}

    def scheduled(params: Any, outer: Any) -> Any:
        result = one_forward_one_backward(stage, begin, finish, params, outer, x, shape)
        return 0.5 * result.total, result

    def plain(params: Any, outer: Any) -> Any:
        y, total = outer["scale"] * x, jnp.float32(0)
        for count in range(shape.stages):
            y = jnp.tanh(y @ params["w"][count, 0])
            total += jnp.sum(y**2) * count
        return 0.5 * (total + jnp.sum(jnp.sin(y @ outer["head"])) * outer["unit"])

    def differentiated(function: Any, has_aux: bool) -> Any:
        def of_floats(weights: Any, floats: Any) -> Any:
            return function(params | {"w": weights}, outer | floats)

        floats = {"scale": outer["scale"], "head": outer["head"]}
        gradient = jax.value_and_grad(of_floats, argnums=(0, 1), has_aux=has_aux)
        return jax.jit(gradient)(params["w"], floats)

    (loss, result), gradients = differentiated(scheduled, has_aux=True)
    expected = differentiated(plain, has_aux=False)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (loss, gradients),
        expected,
    )
    np.testing.assert_allclose(result.begin, 1.5 * x.sum(axis=(1, 2, 3)), rtol=1e-5, atol=1e-6)
    assert result.finish["loss"].shape == (shape.microbatches,)
    np.testing.assert_array_equal(result.stages["microbatch"][-1, 0], np.arange(shape.microbatches))
