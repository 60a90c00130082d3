"""The layers against their formulas in float64, head by head, and in a model."""

import jax
import numpy as np
import pytest
from axlearn_core.config import BuildError, replace
from axlearn_core.module import functional, map_specs
from axlearn_layers import Attention, CausalLM, QueryOnly, Rotary, SequenceInfo

from acme_attention import DifferentialAttention, XPos

BATCH, SEQ, DIM, HEADS, KV_HEADS, HEAD_DIM = 2, 6, 8, 8, 4, 4
SIZES = {"input_dim": DIM, "num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": HEAD_DIM}


# The formulas.


def built(config):
    """Returns a layer, and random parameters."""
    layer, rng = config.instantiate(), np.random.default_rng(1)
    specs = layer.parameter_specs()
    return layer, map_specs(lambda s: np.float32(0.5 * rng.normal(size=s.shape)), specs)


def run(layer, params, *inputs, method="forward"):
    @jax.jit  # one compilation is faster than one per operation
    def call(params, inputs):
        return functional(layer, state=params, prng_key=None, inputs=inputs, method=method)[0]

    return call(params, inputs)


def vectors():
    return np.random.default_rng(0).normal(size=(BATCH, SEQ, DIM)).astype("float32")


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def projected(weight, x):
    """Queries by group, keys and values: FusedQKV's weight is [dim, kv_heads, group + 2, d]."""
    fused = np.einsum("bsd,dkgh->bskgh", x, weight)
    return fused[..., :-2, :], fused[..., -2, :], fused[..., -1, :]


def softmax(scores):
    causal = np.where(np.tril(np.ones(scores.shape[-2:])), scores, -np.inf)
    weights = np.exp(causal - causal.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def test_differential_attention_computes_the_formula():
    layer, params = built(DifferentialAttention.Config(lambda_init=0.6, **SIZES))
    p, x = double(params), double(vectors())
    query, key, value = projected(p["qkv"]["projection"]["weight"], x)
    first, second = np.exp((p["lambda_query"] * p["lambda_key"]).sum(-1))
    heads = []
    for one in range(0, KV_HEADS, 2):
        values = np.concatenate([value[:, :, one], value[:, :, one + 1]], axis=-1)
        for member in range(HEADS // KV_HEADS):
            maps = [
                softmax(query[:, :, kv, member] @ key[:, :, kv].swapaxes(1, 2) / HEAD_DIM**0.5)
                for kv in (one, one + 1)
            ]
            context = (maps[0] - (first - second + 0.6) * maps[1]) @ values
            rms = np.sqrt((context**2).mean(-1, keepdims=True) + 1e-5)
            heads.append((1 - 0.6) * context / rms * p["norm"]["scale"])
    joined = np.concatenate(heads, axis=-1)
    expected = joined @ p["output"]["weight"].reshape(HEADS * HEAD_DIM, DIM)
    got = run(layer, params, vectors(), SequenceInfo())
    # float32 against float64; a norm of differences of nearly equal maps loses some bits.
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def in_complex_numbers(x, positions, sign):
    """xPos of [batch, seq, ..., d]: pair i is one complex number times (zeta_i^(s/B) e^(i f))^n."""
    half = HEAD_DIM // 2
    i = np.arange(half)
    zeta = (i / half + 0.4) / 1.4
    rate = sign * np.log(zeta) / 20.0 + 1j * 10000.0 ** (-i / half)
    places = positions.reshape(*positions.shape, *[1] * (x.ndim - 2))
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(places * rate)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def test_xpos_computes_the_formula():
    layer, params = built(XPos.Config(scale_base=20.0, **SIZES))
    positions = np.random.default_rng(2).integers(100, size=(BATCH, SEQ)).astype("int32")
    query, key, value = projected(
        double(params)["inner"]["projection"]["weight"], double(vectors())
    )
    got = run(layer, params, vectors(), positions)
    expected = in_complex_numbers(query, positions, 1).reshape(BATCH, SEQ, HEADS, HEAD_DIM)
    # Angles up to 100 radians have an error of 4e-6 in float32.
    np.testing.assert_allclose(got.query, expected, rtol=1e-4, atol=1e-5)
    expected = in_complex_numbers(key, positions, -1)
    np.testing.assert_allclose(got.key, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    np.testing.assert_allclose(got.value, value, rtol=1e-5, atol=1e-5)


def test_scores_of_xpos_depend_on_distances_only():
    layer, params = built(XPos.Config(**SIZES))

    places = np.concatenate([np.arange(SEQ), 1000 + np.arange(SEQ)]).astype("int32")
    query, key, _ = run(layer, params, np.tile(vectors(), (1, 2, 1)), places[None])
    parts = (np.split(x, 2, axis=1) for x in (query[:, :, ::2], key))
    scores = [np.einsum("bqhd,bkhd->bhqk", q, k) for q, k in zip(*parts, strict=True)]
    np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-3)  # angles of 1000 radians


# One line in any model.


def llama():
    cfg = CausalLM.default_config().set(vocab_size=16, dim=16)
    cfg.stack.num_layers = 2
    cfg.stack.layer.attention.set(num_heads=4, qkv=Rotary.default_config().set(theta=500.0))
    cfg.stack.layer.feed_forward.hidden_dim = 16
    return cfg


def logits(cfg):
    model, params = built(cfg)
    return run(model, params, {"input_ids": np.arange(SEQ)[None]}, method="logits")


def test_one_line_gives_any_model_xpos():
    cfg, before = llama(), logits(llama())
    (swapped,) = replace(cfg, Rotary, XPos.default_config())
    assert cfg.stack.layer.attention.qkv.theta == 500.0  # carried over
    assert swapped.dropped == ("fraction",)
    assert not np.allclose(logits(cfg), before)


def test_one_line_gives_any_model_differential_attention():
    cfg, before = llama(), logits(llama())
    replace(cfg, Attention, DifferentialAttention.default_config())
    attention = cfg.stack.layer.attention
    assert (attention.num_heads, attention.qkv.theta) == (4, 500.0)  # carried over
    assert not np.allclose(logits(cfg), before)


# What is refused.


@pytest.mark.parametrize(
    ("layer", "fields", "message"),
    [
        (DifferentialAttention, {"lambda_init": 1.0}, r"lambda_init \(=1.0\) must be at least 0"),
        (DifferentialAttention, {"num_kv_heads": 1}, r"num_kv_heads \(=1\) must be even"),
        (DifferentialAttention, {"qkv": QueryOnly.default_config()}, "QueryOnly makes none"),
        (XPos, {"head_dim": 3}, r"head_dim \(=3\) must be even"),
        (XPos, {"gamma": 0.0}, r"gamma \(=0.0\) must be positive"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(layer, fields, message):
    with pytest.raises(BuildError, match=message):
        layer.Config(**SIZES | fields).instantiate()
