"""Compiled programs, read: loops unrolled, collectives found with their axes and volume."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from axlearn_core.parallel import make_mesh
from axlearn_core.plan import Collective, ProgramReading, read_program
from axlearn_core.plan.collectives import _axes, _groups
from axlearn_core.plan.hlo import Instruction, Shape, parse_hlo
from axlearn_core.plan.operations import matrix_flops

LAYERS, WIDTH, HIDDEN, ROWS, LENGTH = 6, 64, 128, 16, 8
MESH = make_mesh({"fsdp": 4, "model": 2})


def struct(*shape: int, spec: tuple[Any, ...] = ()) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=NamedSharding(MESH, PartitionSpec(*spec))
    )


@pytest.fixture(scope="module")
def scanned() -> str:
    """The gradient of scanned layers: parameters over fsdp, features of the hidden over model."""

    def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        def layer(x: jax.Array, w: dict[str, jax.Array]) -> tuple[jax.Array, None]:
            x = x + jnp.tanh(x @ w["into"]) @ w["out"]
            spec = NamedSharding(MESH, PartitionSpec("fsdp", None, None))
            return jax.lax.with_sharding_constraint(x, spec), None

        return jnp.square(jax.lax.scan(layer, x, params)[0]).mean()

    params = {
        "into": struct(LAYERS, WIDTH, HIDDEN, spec=(None, "fsdp", "model")),
        "out": struct(LAYERS, HIDDEN, WIDTH, spec=(None, "model", "fsdp")),
    }
    shardings = jax.tree.map(lambda x: x.sharding, params)
    rows = struct(ROWS, LENGTH, WIDTH, spec=("fsdp",))
    text: str = (
        jax.jit(jax.grad(loss), out_shardings=shardings).lower(params, rows).compile().as_text()
    )
    return text


@pytest.fixture(scope="module")
def reading(scanned: str) -> ProgramReading:
    return read_program(scanned, MESH)


def test_the_layers_of_a_scan_are_all_counted(reading: ProgramReading) -> None:
    # Two products forward, four backward, less the gradient of the input of the first layer.
    product = 2 * ROWS * LENGTH * WIDTH * HIDDEN / MESH.size
    assert reading.flops == 6 * product * LAYERS
    assert reading.unknown_loops == ()


def test_loops_that_the_compiler_did_not_count_are_followed(scanned: str) -> None:
    without = re.sub(r'"known_trip_count":\{"n":"\d+"\}', "", scanned)
    assert without != scanned
    assert read_program(without, MESH) is not None
    assert read_program(without, MESH).flops == read_program(scanned, MESH).flops


def test_unrolled_layers_count_as_xla_counts_them() -> None:
    def layers(x: jax.Array, w: jax.Array) -> jax.Array:
        for index in range(3):
            x = x @ w[index]
        return x

    compiled = jax.jit(layers).lower(jnp.ones((8, 32)), jnp.ones((3, 32, 32))).compile()
    xla = compiled.cost_analysis()
    ours = read_program(compiled.as_text(), MESH)
    assert ours.flops == xla["flops"]
    assert ours.bytes_accessed == pytest.approx(xla["bytes accessed"], rel=0.5)


def volume(reading: ProgramReading, kind: str, axis: str) -> float:
    found: list[Collective] = [
        c for c in reading.collectives if c.kind == kind and c.axes == (axis,) and c.loops
    ]
    return sum(c.bytes for c in found)


def test_gathers_and_sums_of_each_axis_are_as_theory_has_them(reading: ProgramReading) -> None:
    # Each device holds 1/8 of a layer, and gathers 1/2 of it (its share of "model") twice.
    layer = 4 * 2 * WIDTH * HIDDEN
    gathered = LAYERS * layer / 2 * 3 / 4
    assert volume(reading, "all-gather", "fsdp") == pytest.approx(2 * gathered, rel=0.01)
    # The CPU's compiler sums gradients without scattering them.
    assert volume(reading, "all-reduce", "fsdp") == pytest.approx(2 * gathered, rel=0.01)
    activations = 4 * (ROWS / 4) * LENGTH * WIDTH
    summed = 2 * LAYERS * activations * 2 * 1 / 2  # forward and backward
    assert volume(reading, "all-reduce", "model") == pytest.approx(summed, rel=0.01)


def test_an_inner_loop_whose_length_grows_with_the_outer_counter_is_averaged() -> None:
    def triangle(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(
            0, 5, lambda i, x: jax.lax.fori_loop(0, i + 1, lambda _, x: x @ w, x), x
        )

    compiled = jax.jit(triangle).lower(jnp.ones((8, 32)), jnp.ones((32, 32))).compile()
    reading = read_program(compiled.as_text(), MESH)
    assert reading.flops == pytest.approx(2 * 8 * 32 * 32 * (1 + 2 + 3 + 4 + 5))


def test_a_loop_that_depends_on_data_is_named() -> None:
    def until(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x.sum() < 100.0, lambda x: x @ w, x)

    compiled = jax.jit(until).lower(jnp.ones((8, 32)), jnp.ones((32, 32))).compile()
    assert len(read_program(compiled.as_text(), MESH).unknown_loops) == 1


def test_of_the_branches_of_a_conditional_the_costliest_counts() -> None:
    def either(which: jax.Array, x: jax.Array, w: jax.Array) -> jax.Array:
        branches = (lambda x, w: x, lambda x, w: x @ w, lambda x, w: x @ w @ w)
        return jax.lax.switch(which, branches, x, w)

    compiled = jax.jit(either).lower(0, jnp.ones((8, 32)), jnp.ones((32, 32))).compile()
    assert read_program(compiled.as_text(), MESH).flops == 2 * 2 * 8 * 32 * 32


@pytest.mark.parametrize(
    ("printed", "groups", "axes"),
    [
        ("replica_groups={{0,2,4,6},{1,3,5,7}}", [[0, 2, 4, 6], [1, 3, 5, 7]], ("fsdp",)),
        ("replica_groups=[4,2]<=[8]", [[0, 1], [2, 3], [4, 5], [6, 7]], ("model",)),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", [[0, 2, 4, 6], [1, 3, 5, 7]], ("fsdp",)),
        ("replica_groups={}", [[0, 1, 2, 3, 4, 5, 6, 7]], ("fsdp", "model")),
        (
            "replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}",
            [[0, 2, 4, 6], [1, 3, 5, 7]],
            ("fsdp",),
        ),
        (
            "replica_groups=mesh['a'=4,'b'=2] {'a':(1)2}",
            [[0, 4], [1, 5], [2, 6], [3, 7]],
            ("fsdp",),
        ),
    ],
)
def test_groups_are_read_in_every_form(
    printed: str, groups: list[list[int]], axes: tuple[str, ...]
) -> None:
    line = Instruction("all-gather", "all-gather", (), (), f", channel_id=1, {printed}, x=1")
    read = _groups(line, 8)
    np.testing.assert_array_equal(read, groups)
    sub_mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(4, 2), ("fsdp", "model"))
    assert _axes(read, sub_mesh) == axes


def test_a_permute_goes_along_the_axis_of_its_pairs() -> None:
    def shift(x: jax.Array) -> jax.Array:
        return jax.lax.ppermute(x, "fsdp", [(0, 1), (1, 2), (2, 3), (3, 0)])

    spec = PartitionSpec("fsdp")
    mapped = jax.shard_map(shift, mesh=MESH, in_specs=spec, out_specs=spec)
    text = jax.jit(mapped).lower(struct(8, 16, spec=("fsdp",))).compile().as_text()
    (permute,) = read_program(text, MESH).collectives
    assert (permute.kind, permute.axes, permute.sent) == ("collective-permute", ("fsdp",), 128)


def test_a_batched_product_that_is_written_as_a_convolution_counts_once() -> None:
    # As libtpu prints it: the batch is an axis over which a dilated window slides.
    text = """\
ENTRY %main (a: bf16[4,8,16], b: bf16[4,16,32]) -> bf16[4,8,32] {
  %a = bf16[4,8,16]{2,1,0:T(8,128)(2,1)S(1)} parameter(0)
  %b = bf16[4,16,32]{2,1,0} parameter(1)
  ROOT %c = bf16[4,8,32]{2,1,0} convolution(%a, %b), window={size=4 stride=3 pad=0_0 lhs_dilate=4},\
 dim_labels=0bf_0io->0bf
}
"""
    program = parse_hlo(text)
    computation = program.computations["main"]
    assert computation.instructions["a"].shapes == (Shape("bf16", (4, 8, 16), memory_space=1),)
    product = computation.instructions["c"]
    assert matrix_flops(computation, product) == 2 * 4 * 8 * 16 * 32


def test_text_that_is_no_program_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry computation"):
        parse_hlo("HloModule nothing")


def test_metadata_of_kernels_over_several_lines_ends_no_computation() -> None:
    text = """\
ENTRY %main (a: f32[8,16]) -> f32[8,8] {
  %a = f32[8,16]{1,0} parameter(0)
  %k = f32[8,16]{1,0} custom-call(%a), custom_call_target="tpu_custom_call", kernel_metadata={
"blocks":"512"
}}, metadata={op_name="jit(f)/my_kernel"}
  ROOT %c = f32[8,8]{1,0} dot(%k, %a), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}
"""
    reading = read_program(text, MESH)
    assert reading.flops == 2 * 8 * 8 * 16
    assert reading.uncounted_kernels == ("jit(f)/my_kernel",)


def test_products_of_cublas_count() -> None:
    text = """\
ENTRY %main (a: bf16[8,16], b: bf16[16,32]) -> bf16[8,32] {
  %a = bf16[8,16]{1,0} parameter(0)
  %b = bf16[16,32]{1,0} parameter(1)
  %g = (bf16[8,32]{1,0}, s8[4096]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm",\
 backend_config={"gemm_backend_config":{"dot_dimension_numbers":{\
"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %r = bf16[8,32]{1,0} get-tuple-element(%g), index=0
}
"""
    assert read_program(text, MESH).flops == 2 * 8 * 32 * 16
