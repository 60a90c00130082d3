"""What the tests of layers share: a way to call a layer, and small models."""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from axlearn_core.module import functional, map_specs, ones
from axlearn_layers import (
    CausalLM,
    DenseFeedForward,
    GatedFeedForward,
    LayerNorm,
    LearnedPositions,
    Rotary,
)


def call(layer, state, *inputs, method="forward"):
    """Calls a layer, compiled, and returns what it returns without side outputs."""

    @jax.jit  # one compilation is faster than one per operation
    def run(state, inputs):
        return functional(layer, state=state, prng_key=None, inputs=inputs, method=method)[0]

    return run(state, inputs)


def build(config, seed=0):
    """Returns a layer and random parameters, biases too; gains are around 1."""
    layer = config.instantiate()
    rng = np.random.default_rng(seed)

    def draw(spec):  # with numpy, since compiling the initialisation would take longer than a test
        stddev = math.prod(spec.shape[axis] for axis in spec.fan_in_axes) ** -0.5
        return (stddev * rng.normal(size=spec.shape) + (spec.initializer is ones)).astype("float32")

    return layer, map_specs(draw, layer.parameter_specs())


def llama(**fields):
    """A tiny Llama: rotary positions, grouped queries, SwiGLU."""
    cfg = CausalLM.default_config().set(**({"vocab_size": 37, "dim": 16} | fields))
    cfg.stack.num_layers = 2
    cfg.stack.layer.attention.set(num_heads=4, num_kv_heads=2, qkv=Rotary.default_config())
    cfg.stack.layer.feed_forward = GatedFeedForward.default_config().set(hidden_dim=24)
    return cfg


def gpt2(**fields):
    """A tiny GPT-2: learned positions, layer norm, biases, tied embeddings."""
    cfg = CausalLM.default_config().set(vocab_size=37, dim=16, head=None, **fields)
    cfg.positions = LearnedPositions.default_config().set(max_length=32)
    cfg.norm = LayerNorm.default_config()
    cfg.stack.num_layers = 2
    layer = cfg.stack.layer.set(norm=LayerNorm.default_config())
    layer.attention.num_heads = 4
    layer.attention.qkv.projection.bias = True
    layer.attention.output.bias = True
    layer.feed_forward = DenseFeedForward.default_config().set(
        hidden_dim=24, activation="gelu_tanh"
    )
    return cfg


def make_batch(batch=2, seq=12, vocab=37, seed=0):
    tokens = np.random.default_rng(seed).integers(0, vocab, (batch, seq + 1), dtype=np.int32)
    weights = np.ones((batch, seq), np.float32)
    return {"input_ids": tokens[:, :-1], "target_ids": tokens[:, 1:], "target_weights": weights}


@pytest.fixture(scope="session")
def make():
    """The functions above, as a fixture because tests are no package."""
    return SimpleNamespace(call=call, build=build, llama=llama, gpt2=gpt2, batch=make_batch)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
