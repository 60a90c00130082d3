"""What XLA makes of GPU kernels, forwards and backwards, for an H100 that is not here."""

import re

import jax
import jax.numpy as jnp
import pytest

from axlearn_core.kernels import attention, causal, full, ragged_matmul, same_segment, window
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, placing

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def compiled(h100s):
    """Compiles values and gradients of a sum for one GPU; returns the program's text."""

    def compile_for(function, *shapes, dtype=jnp.bfloat16, integers=()):
        placement = Placement(make_mesh({}, h100s[:1]), DEFAULT_RULES)
        place = placement.sharding()
        floats = [jax.ShapeDtypeStruct(shape, dtype, sharding=place) for shape in shapes]
        others = [jax.ShapeDtypeStruct(shape, jnp.int32, sharding=place) for shape in integers]

        def total(floats, others):
            return function(*floats, *others).astype(jnp.float32).sum()

        with placing(placement):
            return jax.jit(jax.value_and_grad(total)).lower(floats, others).compile().as_text()

    return compile_for


def custom_calls(text):
    return re.findall(r'custom_call_target="([^"]+)"', text)


def heads(query_heads, kv_heads, dim, length=384):
    return [(2, length, heads, dim) for heads in (query_heads, kv_heads, kv_heads)]


@pytest.mark.parametrize("mask", [causal(), causal() & window(128), full()], ids=str)
def test_cudnn_attends(compiled, mask):
    def attend(q, k, v):
        return attention(q, k, v, mask=mask, implementation="cudnn")

    calls = custom_calls(compiled(attend, *heads(8, 2, 128)))
    assert sorted(calls) == ["__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"]


@pytest.mark.parametrize("dim", [64, 128, 256])
def test_triton_attends_to_packed_documents_with_a_window_and_sinks(compiled, dim):
    mask = causal() & window(200) & same_segment()

    def attend(q, k, v, sinks, segments):
        places = {"query_segments": segments, "key_segments": segments}
        return attention(q, k, v, mask=mask, logit_cap=30.0, sinks=sinks, **places)

    text = compiled(attend, *heads(4, 2, dim), (4,), integers=[(2, 384)])
    assert custom_calls(text).count("__gpu$xla.gpu.triton") == 3  # forwards, queries, keys
    assert "384,384]" not in text  # no scores of all pairs


def test_triton_multiplies_rows_by_the_matrix_of_their_group_alone(compiled):
    text = compiled(ragged_matmul, (512, 256), (8, 256, 384), integers=[(8,)])
    assert custom_calls(text) == ["__gpu$xla.gpu.triton"] * 3  # forwards, rows, matrices
    assert "2048]" not in text  # no row for every group


def test_float8_products_stay_float8(h100s):
    place = Placement(make_mesh({}, h100s[:1]), DEFAULT_RULES).sharding()
    narrow = jax.ShapeDtypeStruct((512, 512), jnp.float8_e4m3fn, sharding=place)
    product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.bfloat16))
    text = product.lower(narrow, narrow).compile().as_text()
    (line,) = [line for line in text.splitlines() if " dot(" in line or "$f8" in line]
    assert "f8e4m3fn[512,512]" in text and "convert" not in line
