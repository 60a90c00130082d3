"""Logits equal those of transformers for tiny random models, to 1e-4 in float32."""

import jax
import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from axlearn_core.module import functional
from axlearn_layers import CausalLM, DenseFeedForward, LayerNorm, LearnedPositions, Rotary

VOCAB, DIM, LAYERS, HEADS, KV_HEADS, HIDDEN = 101, 48, 3, 6, 2, 80
HEAD_DIM = DIM // HEADS
THETA = 500.0  # not the default, so that an ignored value shows


def llama() -> CausalLM.Config:
    cfg = CausalLM.default_config().set(vocab_size=VOCAB, dim=DIM)
    cfg.stack.num_layers = LAYERS
    cfg.stack.layer.attention.set(num_heads=HEADS, num_kv_heads=KV_HEADS)
    cfg.stack.layer.attention.qkv = Rotary.default_config().set(theta=THETA)
    cfg.stack.layer.feed_forward.hidden_dim = HIDDEN
    return cfg


def gpt2() -> CausalLM.Config:
    cfg = CausalLM.default_config().set(vocab_size=VOCAB, dim=DIM, head=None)
    cfg.positions = LearnedPositions.default_config().set(max_length=64)
    cfg.norm = LayerNorm.default_config()
    cfg.stack.num_layers = LAYERS
    layer = cfg.stack.layer.set(norm=LayerNorm.default_config())
    layer.attention.num_heads = HEADS
    layer.attention.qkv.projection.bias = True
    layer.attention.output.bias = True
    layer.feed_forward = DenseFeedForward.default_config().set(
        hidden_dim=4 * DIM, activation="gelu_tanh"
    )
    return cfg


def transformers_llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=DIM,
            intermediate_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            rope_parameters={"rope_type": "default", "rope_theta": THETA},
            rms_norm_eps=1e-6,
            initializer_range=0.2,  # large, so that attention is far from uniform
            tie_word_embeddings=False,
        )
    )


def transformers_gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_positions=64,
            n_embd=DIM,
            n_layer=LAYERS,
            n_head=HEADS,
            initializer_range=0.2,
        )
    )


def fuse(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[..., heads * head_dim] each -> [..., kv_heads, group + 2, head_dim]."""
    kv_heads = key.shape[-1] // HEAD_DIM
    heads = [part.reshape(*part.shape[:-1], kv_heads, -1, HEAD_DIM) for part in (query, key, value)]
    return np.concatenate(heads, axis=-2)


def convert_llama(weights: dict[str, np.ndarray]) -> dict:
    def layer(i: int) -> dict:
        w = {name: weights[f"model.layers.{i}.{name}.weight"] for name in LLAMA_LAYER}
        query, key, value = (w[f"self_attn.{n}_proj"].T for n in "qkv")
        gate_up = np.stack([w["mlp.gate_proj"].T, w["mlp.up_proj"].T], axis=1)
        output = w["self_attn.o_proj"].T.reshape(HEADS, HEAD_DIM, DIM)
        return {
            "attention_norm": {"scale": w["input_layernorm"]},
            "attention": {
                "qkv": {"inner": {"projection": {"weight": fuse(query, key, value)}}},
                "output": {"weight": output},
            },
            "feed_forward_norm": {"scale": w["post_attention_layernorm"]},
            "feed_forward": {
                "gate_up": {"weight": gate_up},
                "down": {"weight": w["mlp.down_proj"].T},
            },
        }

    return {
        "embedding": {"weight": weights["model.embed_tokens.weight"]},
        "stack": {"layer": stack([layer(i) for i in range(LAYERS)])},
        "norm": {"scale": weights["model.norm.weight"]},
        "head": {"weight": weights["lm_head.weight"]},
    }


LLAMA_LAYER = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


def convert_gpt2(weights: dict[str, np.ndarray]) -> dict:
    def norm(name: str) -> dict:
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    def linear(name: str) -> dict:  # stored as [in, out], unlike torch's own Linear
        return {"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    def layer(i: int) -> dict:
        at = f"transformer.h.{i}"
        qkv, output = linear(f"{at}.attn.c_attn"), linear(f"{at}.attn.c_proj")
        fused = {name: fuse(*np.split(value, 3, axis=-1)) for name, value in qkv.items()}
        output["weight"] = output["weight"].reshape(HEADS, HEAD_DIM, DIM)
        return {
            "attention_norm": norm(f"{at}.ln_1"),
            "attention": {"qkv": {"projection": fused}, "output": output},
            "feed_forward_norm": norm(f"{at}.ln_2"),
            "feed_forward": {"up": linear(f"{at}.mlp.c_fc"), "down": linear(f"{at}.mlp.c_proj")},
        }

    return {
        "embedding": {"weight": weights["transformer.wte.weight"]},
        "positions": {"weight": weights["transformer.wpe.weight"]},
        "stack": {"layer": stack([layer(i) for i in range(LAYERS)])},
        "norm": norm("transformer.ln_f"),
    }


def stack(layers: list[dict]) -> dict:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *layers)


MODELS = {
    "llama": (llama, transformers_llama, convert_llama),
    "gpt2": (gpt2, transformers_gpt2, convert_gpt2),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    """Our model, its parameters, and the transformers model they come from."""
    config, oracle, convert = MODELS[request.param]
    torch.manual_seed(0)
    theirs = oracle().eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim == 1:  # gains and biases start as constants, which hides mistakes
                parameter.add_(torch.as_tensor(0.2 * rng.normal(size=parameter.shape)))
    weights = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    model = config().instantiate()
    state = convert(weights)
    declared = jax.tree.map(lambda spec: spec.shape, model.parameter_specs())
    assert jax.tree.map(np.shape, state) == declared
    return model, state, theirs


@pytest.mark.parametrize("length", [1, 7, 40])
def test_logits_equal_transformers(pair, length):
    model, state, theirs = pair
    ids = np.random.default_rng(length).integers(0, VOCAB, (2, length))
    with torch.no_grad():
        expected = theirs(torch.as_tensor(ids)).logits.numpy()
    logits, _ = functional(
        model, state=state, prng_key=None, inputs=({"input_ids": ids},), method="logits"
    )
    assert expected.std() > 0.5
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_gradients_equal_transformers(pair):
    model, state, theirs = pair
    ids = np.random.default_rng(0).integers(0, VOCAB, (2, 21))
    tokens = torch.as_tensor(ids)
    theirs.zero_grad()
    logits = theirs(tokens[:, :-1]).logits.flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum").backward()
    convert = MODELS["llama" if "head" in state else "gpt2"][2]
    expected = convert({name: p.grad.numpy() for name, p in theirs.named_parameters()})
    batch = {
        "input_ids": ids[:, :-1],
        "target_ids": ids[:, 1:],
        "target_weights": np.ones((2, 20), np.float32),
    }

    def loss(state):
        return functional(model, state=state, prng_key=None, inputs=(batch,))[0].total

    def compare(ours, theirs):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-4)

    jax.tree.map(compare, jax.jit(jax.grad(loss))(state), expected)
