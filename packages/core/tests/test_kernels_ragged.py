"""The implementations of ragged matmul in core, against numpy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from axlearn_core.errors import UserError
from axlearn_core.kernels import (
    KernelError,
    RaggedMatmulInputs,
    RaggedMatmulSpec,
    ragged_matmul,
    recording_choices,
)
from axlearn_core.kernels.ragged_blocked import BlockedRaggedMatmul
from axlearn_core.kernels.ragged_plain import ReferenceRaggedMatmul, XLARaggedMatmul

KERNELS = [ReferenceRaggedMatmul, XLARaggedMatmul, BlockedRaggedMatmul]
CASES = {  # (group sizes, rows beyond them): blocks have 256 and 64 rows
    "one-row": ([1], 0),
    "fewer-rows-than-a-block": ([3, 0, 9], 0),
    "empty-groups": ([0, 70, 0, 0, 130, 0], 0),
    "all-in-the-first": ([300, 0, 0], 0),
    "all-in-the-last": ([0, 0, 300], 0),
    "whole-blocks": ([256, 64, 320], 0),
    "one-more-and-one-less": ([257, 63, 65, 255, 1], 0),
    "rows-of-no-group": ([100, 33], 40),
    "no-group-has-rows": ([0, 0], 5),
}


def _inputs(sizes, beyond=0, dims=(5, 7), seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(sum(sizes) + beyond, dims[0])).astype(np.float32)
    weights = rng.normal(size=(len(sizes), *dims)).astype(np.float32)
    cotangent = rng.normal(size=(len(rows), dims[1])).astype(np.float32)
    return rows, weights, np.int32(sizes), cotangent


def _float64(rows, weights, sizes, cotangent):
    """Group by group: the product, and the gradients of its inner product with the cotangent."""
    rows, weights, cotangent = (np.float64(x) for x in (rows, weights, cotangent))
    output, of_rows = np.zeros(cotangent.shape), np.zeros(rows.shape)
    of_weights = np.zeros(weights.shape)
    start = 0
    for group, size in enumerate(sizes):
        own = slice(start, start + size)
        output[own] = rows[own] @ weights[group]
        of_rows[own] = cotangent[own] @ weights[group].T
        of_weights[group] = rows[own].T @ cotangent[own]
        start += size
    return output, of_rows, of_weights


def _with_gradients(kernel, rows, weights, sizes, cotangent):
    spec = RaggedMatmulSpec(*rows.shape[:1], *weights.shape, rows.dtype.name, "cpu")

    @jax.jit
    def run(rows, weights, sizes, cotangent):
        output, pull = jax.vjp(
            lambda rows, weights: kernel()(spec, RaggedMatmulInputs(rows, weights, sizes)),
            rows,
            weights,
        )
        return output, *pull(cotangent)

    return run(rows, weights, sizes, cotangent)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_product_and_gradients_equal_float64(kernel, case):
    inputs = _inputs(*CASES[case])
    results = _with_gradients(kernel, *inputs)
    for result, expected in zip(results, _float64(*inputs), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-4)  # sums of up to 320 products


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_is_summed_in_float32(kernel):
    inputs = _inputs([300, 0, 45], dims=(128, 9))
    rows, weights, sizes, cotangent = inputs
    rounded = [jnp.asarray(x, jnp.bfloat16) for x in (rows, weights, cotangent)]
    results = _with_gradients(kernel, rounded[0], rounded[1], sizes, rounded[2])
    expected = _float64(rounded[0], rounded[1], sizes, rounded[2])
    for result, exact in zip(results, expected, strict=True):
        assert result.dtype == jnp.bfloat16
        # One rounding at the end is 2^-9 of a value; where terms cancel, float32's own is left.
        np.testing.assert_allclose(np.float64(result), exact, rtol=2**-8, atol=1e-3)


def test_the_same_program_serves_all_group_sizes():
    rows, weights, _, cotangent = _inputs([100, 33, 70])
    traces = []

    @jax.jit
    def run(sizes):
        traces.append(1)
        return ragged_matmul(rows, weights, sizes)

    for sizes in ([100, 33, 70], [0, 203, 0], [1, 1, 201]):
        expected = _float64(rows, weights, sizes, cotangent)[0]
        np.testing.assert_allclose(run(np.int32(sizes)), expected, atol=1e-5)
    assert len(traces) == 1


def test_vmap_takes_other_sizes_and_weights_for_each():
    cases = [_inputs(sizes, seed=seed) for seed, sizes in enumerate(([70, 0, 9], [3, 75, 1]))]
    stacked = [np.stack(arrays) for arrays in zip(*cases, strict=True)]

    def loss(rows, weights, sizes, cotangent):
        return (ragged_matmul(rows, weights, sizes) * cotangent).sum()

    gradients = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))(*stacked)
    for index, case in enumerate(cases):
        for gradient, expected in zip(gradients, _float64(*case)[1:], strict=True):
            np.testing.assert_allclose(gradient[index], expected, atol=1e-4)


@pytest.mark.parametrize("saved", [[], ["product"]])
def test_a_scan_with_remat_by_name_has_the_same_gradients(saved):
    rows, weights, sizes, _ = _inputs([70, 0, 9], dims=(6, 6))
    policy = jax.checkpoint_policies.save_only_these_names(*saved)

    def loss(rows, weights, remat):
        def layer(x, weight):
            return jnp.tanh(checkpoint_name(ragged_matmul(x, weight, sizes), "product")), None

        layer = functools.partial(jax.checkpoint, policy=policy)(layer) if remat else layer
        return jax.lax.scan(layer, rows, weights)[0].sum()

    stacked = np.stack([weights, weights[::-1]])
    gradients = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)
    expected, result = gradients(rows, stacked, False), gradients(rows, stacked, True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), result, expected)


def test_a_cpu_takes_the_blocks_and_says_why_not_ragged_dot():
    rows, weights, sizes, _ = _inputs([2, 3])
    with recording_choices() as choices:
        ragged_matmul(rows, weights, sizes)
        ragged_matmul(rows, weights, sizes, implementation="reference")
    assert [choice.name for choice in choices] == [
        "axlearn-core/ragged_matmul.blocked",
        "axlearn-core/ragged_matmul.reference",
    ]
    assert str(choices[0]).startswith("ragged_matmul(5 rows, 2 groups, 5 to 7, float32, cpu)")
    with pytest.raises(KernelError, match="computes every row for every group"):
        ragged_matmul(rows, weights, sizes, implementation="ragged_dot")


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_take_ragged_dot(platform):
    spec = RaggedMatmulSpec(8, 2, 4, 4, "bfloat16", platform)
    assert XLARaggedMatmul().supports(spec) is None
    assert "are for cpus" in BlockedRaggedMatmul().supports(spec)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 3), (2, 3), (2,)), r"takes \[rows, in\]"),
        (((4, 3), (2, 5, 3), (2,)), "must agree in their input dimension"),
        (((4, 3), (2, 3, 3), (3,)), "must agree .* the number of groups"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    rows, weights, sizes = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(UserError, match=message):
        ragged_matmul(rows, weights, sizes.astype(int))


def test_weights_of_another_dtype_are_refused():
    rows, weights, sizes, _ = _inputs([2, 3])
    with pytest.raises(UserError, match=r"cast the weights with weights.astype\(rows.dtype\)"):
        ragged_matmul(rows.astype(np.float16), weights, sizes)
