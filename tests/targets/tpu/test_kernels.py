"""What XLA makes of TPU kernels, forwards and backwards, for a v5p that is not here."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from axlearn_core.kernels import attention, causal, chunk, ragged_matmul, same_segment, window
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, placing


@pytest.fixture(scope="module")
def v5p():
    return topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x1").devices[:1]


def compiled(function, devices, *shapes, integers=()):
    """Values and gradients of a sum; returns the program's text."""
    placement = Placement(make_mesh({}, devices), DEFAULT_RULES)
    place = placement.sharding()
    floats = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place) for shape in shapes]
    others = [jax.ShapeDtypeStruct(shape, jnp.int32, sharding=place) for shape in integers]

    def total(floats, others):
        return function(*floats, *others).astype(jnp.float32).sum()

    with placing(placement):
        return jax.jit(jax.value_and_grad(total)).lower(floats, others).compile().as_text()


def kernels(text):
    return re.findall(r'custom_call_target="(tpu_custom_call)"', text)


@pytest.mark.parametrize("dim", [64, 128, 256])
def test_splash_attends_to_packed_documents_with_a_window_and_sinks(v5p, dim):
    def attend(q, k, v, sinks, segments):
        places = {"query_segments": segments, "key_segments": segments}
        mask = causal() & window(300) & same_segment()
        return attention(q, k, v, mask=mask, logit_cap=30.0, sinks=sinks, **places)

    shapes = [(2, 640, heads, dim) for heads in (4, 2, 2)]
    text = compiled(attend, v5p, *shapes, (4,), integers=[(2, 640)])
    assert len(kernels(text)) == 3  # forwards, queries, keys
    assert "640,640]" not in text  # no scores of all pairs


def test_a_mask_that_splash_attention_does_not_know_is_computed_in_it(v5p):
    def attend(q, k, v):
        return attention(q, k, v, mask=causal() & chunk(200), implementation="splash")

    text = compiled(attend, v5p, *[(2, 640, 2, 128)] * 3)
    assert len(kernels(text)) == 3
    assert "640,640]" not in text


def test_xla_multiplies_rows_by_the_matrix_of_their_group_alone(v5p):
    text = compiled(ragged_matmul, v5p, (512, 256), (8, 256, 384), integers=[(8,)])
    assert len(kernels(text)) == 3  # forwards, rows, matrices
    assert "2048]" not in text  # no row for every group


def test_float8_products_stay_float8(v5p):
    """On chips without units for them they are widened in the matrix product, not before."""
    place = Placement(make_mesh({}, v5p), DEFAULT_RULES).sharding()
    narrow = jax.ShapeDtypeStruct((512, 512), jnp.float8_e4m3fn, sharding=place)
    product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.bfloat16))
    assert "f8e4m3fn[512,512]" in product.lower(narrow, narrow).compile().as_text()
