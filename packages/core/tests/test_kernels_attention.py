"""The implementations of attention in core, against numpy in float64 and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.kernels import (
    BucketedBias,
    LinearBias,
    attention,
    causal,
    full,
    prefix,
    same_segment,
    window,
)
from axlearn_core.kernels.blocked import query_blocks

MASKS = {
    "full": full(),
    "causal": causal(),
    "window": causal() & window(40),
    "local": window(30),
    "prefix": causal() | prefix(150),
    "packed": causal() & same_segment(),
    "packed-window": causal() & window(70) & same_segment(),
    "strictly-before": ~causal() & ~window(9),
    "hole": causal() & ~window(129),
}


def _inputs(queries=20, keys=20, heads=4, kv=2, dim=8, value_dim=8, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(batch, queries, heads, dim), (batch, keys, kv, dim), (batch, keys, kv, value_dim)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def _segments(batch, length):
    return np.sort(np.random.default_rng(1).integers(1, 4, size=(batch, length)), axis=1)


def _float64(query, key, value, allowed, scale, logit_cap=None, bias=None, sinks=None):
    """The formula, one head at a time, in numpy float64; `allowed` is [batch, query, key]."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    group = query.shape[2] // key.shape[2]
    output = np.zeros((*query.shape[:3], value.shape[3]))
    for b in range(query.shape[0]):
        for h in range(query.shape[2]):
            scores = scale * query[b, :, h] @ key[b, :, h // group].T
            if logit_cap is not None:
                scores = logit_cap * np.tanh(scores / logit_cap)
            if bias is not None:
                scores = scores + bias[h]
            weights = np.exp(scores - scores.max()) * allowed[b]
            total = weights.sum(-1, keepdims=True)
            if sinks is not None:
                total = total + np.exp(np.float64(sinks[h]) - scores.max())
            weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
            output[b, :, h] = weights @ value[b, :, h // group]
    return output


def _allowed(mask, queries, keys, segments):
    allowed = mask.evaluate(np.arange(queries), np.arange(keys), segments, segments)
    return np.broadcast_to(allowed, (2, queries, keys))


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
@pytest.mark.parametrize("name", MASKS)
def test_attention_equals_float64(name, implementation):
    query, key, value = _inputs(150, 150)
    segments = _segments(2, 150)
    output = attention(
        query,
        key,
        value,
        mask=MASKS[name],
        query_segments=segments,
        key_segments=segments,
        implementation=implementation,
    )
    expected = _float64(query, key, value, _allowed(MASKS[name], 150, 150, segments), 8**-0.5)
    np.testing.assert_allclose(output, expected, atol=2e-6)  # float32 rounding of values near 1


def _t5_bucket(distance, both_directions, count=8, furthest=20):
    """One distance key - query; the rule in words of the paper's appendix."""
    first = 0
    if both_directions:
        count //= 2
        first = count if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = count // 2
    if distance < exact:
        return first + distance
    part = np.log(distance / exact) / np.log(furthest / exact)
    return first + min(exact + int(part * (count - exact)), count - 1)


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
@pytest.mark.parametrize("kind", ["linear", "buckets", "buckets both ways"])
def test_a_bias_is_added_to_capped_scores(kind, implementation):
    query, key, value = _inputs(150, 150)
    distances = np.arange(150) - np.arange(150)[:, None]
    table = np.random.default_rng(2).normal(size=(4, 8)).astype(np.float32)
    if kind == "linear":
        bias, parameters = LinearBias((0.5, 0.25, 0.1, 0.05)), None
        expected = -np.array(bias.slopes)[:, None, None] * abs(distances)
    else:
        bias, parameters = BucketedBias(8, 20, both_directions="both" in kind), table
        bucket = np.vectorize(_t5_bucket)(distances, bias.both_directions)
        expected = table.astype(np.float64)[:, bucket]
    options = {"bias": bias, "bias_parameters": parameters, "logit_cap": 2.0}
    output = attention(query, key, value, mask=window(40), implementation=implementation, **options)
    allowed = _allowed(window(40), 150, 150, None)
    expected = _float64(query, key, value, allowed, 8**-0.5, 2.0, bias=expected)
    np.testing.assert_allclose(output, expected, atol=3e-6)  # float32 rounding of larger scores


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
@pytest.mark.parametrize("name", ["causal", "packed-window", "strictly-before"])
def test_sinks_take_a_part_of_the_weights(name, implementation):
    query, key, value = _inputs(150, 150)
    segments = _segments(2, 150)
    sinks = np.array([-1.0, 0.0, 1.0, 2.0], np.float32)
    output = attention(
        query,
        key,
        value,
        mask=MASKS[name],
        sinks=sinks,
        query_segments=segments,
        key_segments=segments,
        implementation=implementation,
    )
    allowed = _allowed(MASKS[name], 150, 150, segments)
    expected = _float64(query, key, value, allowed, 8**-0.5, sinks=sinks)
    np.testing.assert_allclose(output, expected, atol=2e-6)


def test_a_bias_follows_positions_that_differ_between_rows():
    query, key, value = _inputs(1, 6)
    places = np.array([[5], [2]])
    output = attention(
        query, key, value, mask=causal(), bias=LinearBias((0.5,) * 4), query_positions=places
    )
    for row, place in enumerate(places[:, 0]):
        distances = place - np.arange(6)
        bias = -0.5 * np.tile(abs(distances), (4, 1, 1))
        allowed = np.tile(distances >= 0, (1, 1, 1))
        one = [x[row : row + 1] for x in (query, key, value)]
        expected = _float64(*one, allowed, 8**-0.5, bias=bias)
        np.testing.assert_allclose(output[row : row + 1], expected, atol=2e-6)


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
def test_bias_tables_and_sinks_learn(implementation):
    query, key, value = _inputs()

    def loss(table, sinks):
        options = {"bias": BucketedBias(8, 20, False), "bias_parameters": table, "sinks": sinks}
        return attention(
            query, key, value, mask=causal(), implementation=implementation, **options
        ).sum()

    table, sinks = np.zeros((4, 8), np.float32), np.zeros(4, np.float32)
    gradients = jax.grad(loss, argnums=(0, 1))(table, sinks)
    for index, step in ((0, (1, 2)), (1, (3,))):
        at = [np.zeros((4, 8), np.float32), np.zeros(4, np.float32)]
        at[index][step] = 1e-2
        slope = (loss(*at) - loss(*(-x for x in at))) / 2e-2
        np.testing.assert_allclose(gradients[index][step], slope, rtol=2e-2)


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
def test_scale_logit_cap_and_value_width_are_honoured(implementation):
    query, key, value = _inputs(value_dim=5)
    output = attention(
        query, key, value, mask=causal(), scale=2.0, logit_cap=3.0, implementation=implementation
    )
    allowed = _allowed(causal(), 20, 20, None)
    np.testing.assert_allclose(output, _float64(query, key, value, allowed, 2.0, 3.0), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("causal", (128, 128)),
        ("causal", (300, 100)),
        ("window", (257, 257)),
        ("packed", (130, 130)),
        ("packed", (100, 300)),
        ("strictly-before", (257, 257)),
    ],
)
def test_blocked_and_reference_have_the_same_output_and_gradients(name, lengths):
    query, key, value = _inputs(*lengths)
    weights = np.random.default_rng(2).normal(size=query.shape).astype(np.float32)
    query_segments, key_segments = _segments(2, lengths[0]), _segments(2, lengths[1])

    def loss(arrays, implementation):
        output = attention(
            *arrays,
            mask=MASKS[name],
            query_segments=query_segments,
            key_segments=key_segments,
            implementation=implementation,
        )
        return jnp.sum(output * weights), output

    grad = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    for got, expected in zip(
        jax.tree.leaves(grad((query, key, value), "blocked")),
        jax.tree.leaves(grad((query, key, value), "reference")),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, atol=2e-5)  # sums of up to 300 float32 terms


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
def test_a_query_that_may_attend_to_nothing_gets_zeros_and_finite_gradients(implementation):
    query, key, value = _inputs()

    def total(query):
        return attention(query, key, value, mask=~causal(), implementation=implementation)

    output, vjp = jax.vjp(total, query)
    np.testing.assert_array_equal(output[:, -1], 0)
    assert np.isfinite(vjp(output)[0]).all()


def test_segments_shared_by_no_key_leave_a_row_of_zeros_in_cross_attention():
    query, key, value = _inputs()
    ones = np.ones((2, 20), np.int32)
    output = attention(
        query, key, value, mask=same_segment(), query_segments=ones, key_segments=ones + 1
    )
    np.testing.assert_array_equal(output, 0)


def test_one_token_at_a_time_equals_all_at_once():
    query, key, value = _inputs()
    expected = attention(query, key, value, mask=causal() & window(6))
    for position in (0, 7, 19):
        output = attention(
            query[:, position : position + 1],
            key,
            value,
            mask=causal() & window(6),
            query_positions=jnp.array([position]),
        )
        np.testing.assert_allclose(output[:, 0], expected[:, position], atol=1e-6)


def test_bfloat16_scores_are_summed_in_float32():
    query, key, value = (jnp.asarray(x, jnp.bfloat16) for x in _inputs())
    output = attention(query, key, value, mask=causal())
    assert output.dtype == jnp.bfloat16
    expected = _float64(query, key, value, _allowed(causal(), 20, 20, None), 8**-0.5)
    # Inputs are exact; weights and output are rounded to 8 bits: 2 roundings of 2^-9 of values < 4.
    np.testing.assert_allclose(np.asarray(output, np.float64), expected, atol=4 * 2**-8)


def test_query_blocks_look_only_at_the_keys_that_the_mask_may_allow():
    blocks = list(query_blocks(causal() & window(100), 512, 512))
    assert [(block.keys.start, block.keys.stop) for block in blocks] == [
        (0, 128),
        (0, 256),
        (128, 384),
        (256, 512),
    ]


def test_long_sequences_are_cut_into_a_bounded_number_of_blocks():
    assert len(list(query_blocks(causal(), 100_000, 100_000))) == 16


def test_a_mask_with_segments_wants_them():
    with pytest.raises(UserError, match="query_segments or key_segments is None"):
        attention(*_inputs(), mask=same_segment())


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match=r"kv heads \(=2\) must divide query heads \(=3\)"):
        attention(*_inputs(heads=3), mask=full())


def test_key_and_value_of_different_lengths_are_refused():
    query, key, value = _inputs()
    with pytest.raises(UserError, match="key and value must agree in length and heads"):
        attention(query, key, value[:, :3], mask=full())
