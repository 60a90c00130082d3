"""Attention that is split over devices equals that of one, output and every gradient."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from axlearn_core.kernels import (
    BucketedBias,
    KernelError,
    LinearBias,
    Mask,
    ScoreBias,
    attention,
    causal,
    full,
    prefix,
    recording_choices,
    same_segment,
    window,
)
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, placing
from axlearn_core.testing.devices import eight_devices

BATCH, LENGTH, HEADS, KV_HEADS, DIM = 2, 32, 8, 2, 4

MASKS = {
    "full": full(),
    "causal": causal(),
    "window": causal() & window(6),
    "both ways": window(3),
    "packed": causal() & same_segment(),
    "far": ~window(9),
    "rest": (causal() | prefix(9)) & ~window(2),
}
METHODS = ["ring", "all_to_all"]


def arrays() -> dict[str, Any]:
    """Query, key and value, and with what the output is multiplied before gradients are taken."""
    rng = np.random.default_rng(0)
    shapes = {"query": HEADS, "key": KV_HEADS, "value": KV_HEADS, "weights": HEADS}
    return {
        name: rng.normal(size=(BATCH, LENGTH, heads, DIM)).astype(np.float32)
        for name, heads in shapes.items()
    }


SEGMENTS = np.sort(np.random.default_rng(1).integers(1, 4, size=(BATCH, LENGTH)), axis=1)


def on(**shape: int) -> Placement:
    count = int(np.prod(list(shape.values())))
    return Placement(make_mesh(shape, eight_devices()[:count]), DEFAULT_RULES)


def output_and_gradients(given: dict[str, Any], dtype: str = "float32", **options: Any) -> Any:
    def loss(floats: dict[str, jax.Array]) -> Any:
        floats = {name: x.astype(dtype) for name, x in floats.items()}
        weights = floats.pop("weights")
        result = attention(**floats, **options)
        return (result * weights).astype("float32").sum(), result

    def both(floats: dict[str, jax.Array]) -> Any:
        (_, result), gradients = jax.value_and_grad(loss, has_aux=True)(floats)
        return result, gradients

    return jax.tree.map(np.float32, jax.jit(both)(given))


@cache
def expected(mask: Mask) -> Any:
    return output_and_gradients(
        arrays(),
        mask=mask,
        query_segments=SEGMENTS,
        key_segments=SEGMENTS,
        implementation="reference",
    )


def assert_close(got: Any, want: Any, tolerance: float = 1e-5) -> None:
    """float32 sums in another order differ by 6e-8 of the largest, a few of them add up."""
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        scale = np.abs(y).max()
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * scale, err_msg=str(path))


@pytest.mark.parametrize(
    ("name", "devices"),
    [*((name, 4) for name in MASKS), ("packed", 2), ("packed", 8)],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_split_sequence_gives_what_one_device_does(method: str, name: str, devices: int) -> None:
    with placing(on(seq=devices)):
        got = output_and_gradients(
            arrays(),
            mask=MASKS[name],
            query_segments=SEGMENTS,
            key_segments=SEGMENTS,
            implementation=method,
        )
    assert_close(got, expected(MASKS[name]))


@pytest.mark.parametrize(
    "shape",
    [{"data": 2, "seq": 2, "model": 2}, {"seq": 2, "model": 4}],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_a_split_sequence_goes_with_other_axes(method: str, shape: dict[str, int]) -> None:
    """4 along `model` have 2 key and value heads to share."""
    with placing(on(**shape)):
        got = output_and_gradients(
            arrays(),
            mask=MASKS["packed"],
            query_segments=SEGMENTS,
            key_segments=SEGMENTS,
            implementation=method,
        )
    assert_close(got, expected(MASKS["packed"]))


def test_scores_are_capped() -> None:
    options = {"mask": causal(), "logit_cap": 1.5, "scale": 0.7}
    want = output_and_gradients(arrays(), **options)
    with placing(on(seq=2)):
        got = output_and_gradients(arrays(), implementation="ring", **options)
    assert_close(got, want)


def test_long_blocks_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("axlearn_core.kernels.ring_blocks._KEYS", 3)
    with placing(on(seq=2)):
        got = output_and_gradients(arrays(), mask=causal(), implementation="ring")
    assert_close(got, expected(causal()))


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_is_summed_in_float32(method: str) -> None:
    with placing(on(seq=4)):
        got = output_and_gradients(arrays(), "bfloat16", mask=causal(), implementation=method)
    # 8 bits: 2^-9 for each of some roundings of inputs, weights and results.
    assert_close(got, expected(causal()), tolerance=2.0**-6)


def test_queries_may_read_another_sequence() -> None:
    given = arrays()
    given["key"], given["value"] = (given[name][:, : LENGTH // 2] for name in ("key", "value"))
    want = output_and_gradients(given, mask=full())
    with placing(on(seq=4)):
        got = output_and_gradients(given, mask=full(), implementation="ring")
    assert_close(got, want)


@pytest.mark.parametrize("mesh", [{"model": 4}, {"seq": 2, "model": 2}], ids=str)
@pytest.mark.parametrize(
    "bias",
    [LinearBias(tuple(2.0**-h for h in range(HEADS))), BucketedBias(8, 20, both_directions=True)],
    ids=["slopes", "buckets"],
)
def test_biases_and_sinks_are_those_of_a_devices_heads(
    mesh: dict[str, int], bias: ScoreBias
) -> None:
    rng = np.random.default_rng(2)
    given = {**arrays(), "sinks": rng.normal(size=HEADS).astype(np.float32)}
    if isinstance(bias, BucketedBias):
        given["bias_parameters"] = rng.normal(size=(HEADS, 8)).astype(np.float32)
    want = output_and_gradients(given, mask=causal(), bias=bias)
    with placing(on(**mesh)):
        got = output_and_gradients(given, mask=causal(), bias=bias)
    assert_close(got, want)


def test_a_bias_of_unknown_parts_keeps_heads_together() -> None:
    class Flat(ScoreBias):
        def evaluate(self, query_positions, key_positions, parameters):
            return jnp.arange(HEADS, dtype=jnp.float32)[:, None, None] * key_positions[None, None]

    want = output_and_gradients(arrays(), mask=causal(), bias=Flat())
    with placing(on(data=2, model=4)):
        got = output_and_gradients(arrays(), mask=causal(), bias=Flat())
    assert_close(got, want)


def test_positions_that_are_given_are_split_too() -> None:
    places = np.tile(np.arange(LENGTH)[::-1], (BATCH, 1))
    options = {"mask": causal() & prefix(20), "query_positions": places, "key_positions": places}
    want = output_and_gradients(arrays(), **options)
    with placing(on(data=2, seq=4)):
        got = output_and_gradients(arrays(), **options)
    assert_close(got, want)


@pytest.mark.parametrize("shape", [{"data": 4, "seq": 2}, {"seq": 8}, {"fsdp": 8}], ids=str)
def test_one_row_is_decoded_on_any_mesh(shape: dict[str, int]) -> None:
    given = arrays()
    query = given["query"][:1, 5:6]
    cache = given["key"][:1], given["value"][:1]
    places = {"query_positions": np.array([[5]]), "key_positions": np.arange(LENGTH)}
    decode = partial(attention, mask=causal(), **places)
    want = decode(query, *cache)
    with placing(on(**shape)):
        got = jax.jit(decode)(query, *cache)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("how", ["vmap", "shard_map"])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_split_inside_the_stages_of_a_pipeline(method: str, how: str) -> None:
    placement = on(pipeline=2, data=2, seq=2)
    names = ("query", "key", "value")
    stages = {name: np.stack([arrays()[name], arrays()[name][::-1]]) for name in names}

    def stage(given: dict[str, jax.Array], implementation: str) -> jax.Array:
        return attention(**given, mask=causal(), implementation=implementation)

    def one_of_several(given: dict[str, jax.Array]) -> jax.Array:
        return stage({name: x[0] for name, x in given.items()}, method)[None]

    def run(given: dict[str, jax.Array]) -> jax.Array:
        if how == "vmap":
            return jax.vmap(partial(stage, implementation=method), spmd_axis_name="pipeline")(given)
        spec = PartitionSpec("pipeline")
        return jax.shard_map(
            one_of_several,
            mesh=placement.mesh,
            in_specs=spec,
            out_specs=spec,
            axis_names={"pipeline"},
            check_vma=False,
        )(given)

    def gradients(run: Any, given: Any) -> Any:
        return jax.grad(lambda given: (run(given) ** 2).sum())(given)

    want = gradients(jax.vmap(partial(stage, implementation="reference")), stages)
    placed = NamedSharding(placement.mesh, PartitionSpec("pipeline", "data", "seq"))
    with placing(placement):
        got = jax.jit(partial(gradients, run), in_shardings=placed)(jax.device_put(stages, placed))
    assert_close(got, want)


# What is chosen, and why.


def choices(shape: dict[str, int], heads: int = HEADS, **options: Any) -> list[str]:
    given = arrays()
    del given["weights"]
    given["query"] = given["query"][:, :, :heads]
    with placing(on(**shape)), recording_choices() as made:
        jax.eval_shape(partial(attention, mask=causal(), **options), **given)
    return [str(choice) for choice in made]


def test_the_kernel_is_chosen_for_the_sizes_of_a_device() -> None:
    (choice,) = choices({"data": 2, "model": 4})
    assert choice.startswith(
        "attention(batch 1, 32 queries, 32 keys, 2/1 heads of 4, float32, causal, cpu): "
    )


def test_heads_are_exchanged_where_they_divide() -> None:
    context, local = choices({"seq": 4})
    assert context == (
        "attention(batch 2, 32 queries, 32 keys, 8/2 heads of 4, float32, causal, cpu, "
        "sequence over 4 devices): axlearn-core/context_attention.all_to_all (chosen)"
    )
    assert local.startswith("attention(batch 2, 32 queries, 32 keys, 2/1 heads of 4")


def test_a_ring_is_chosen_where_heads_do_not_divide() -> None:
    (choice,) = choices({"seq": 4, "model": 2}, heads=6)
    name, reason = choice.split("\n")
    assert name.endswith("axlearn-core/context_attention.ring (chosen)")
    assert reason.endswith(
        "all_to_all: the 4 devices that split the sequence do not divide the 3 query heads of each "
        "of them"
    )


def test_a_kernel_that_is_asked_for_computes_between_the_exchanges() -> None:
    _, local = choices({"seq": 4}, implementation="reference")
    assert "axlearn-core/attention.reference (forced)" in local


@pytest.mark.parametrize("shape", [{}, {"data": 2}], ids=str)
def test_a_method_that_is_asked_for_leaves_whole_sequences_alone(shape: dict[str, int]) -> None:
    (choice,) = choices(shape, implementation="ring")
    assert "axlearn-core/attention.blocked (chosen)" in choice


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sinks": np.zeros(HEADS)}, "it has no gradients of biases and sinks"),
        ({"query_positions": np.arange(LENGTH)}, "positions are known only when running"),
    ],
)
def test_a_forced_ring_says_what_it_cannot_do(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(KernelError, match=reason):
        choices({"seq": 4}, implementation="ring", **options)
