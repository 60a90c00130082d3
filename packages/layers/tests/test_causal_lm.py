import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import (
    BuildError,
    MissingFieldsError,
    config_hash,
    from_json,
    replace,
    to_json,
    to_text,
)
from axlearn_core.module import functional, parameter_count
from axlearn_core.plugins import get_registry
from axlearn_core.training.step import cast_floats
from axlearn_layers import CausalLM, LayerNorm, Norm, Remat, RMSNorm, TokenLoss


@pytest.fixture(params=["llama", "gpt2"])
def model(request, make):
    return make.build(getattr(make, request.param)())


def test_loss_is_that_of_the_logits(make, model):
    lm, state = model
    batch = make.batch()
    batch["target_weights"][1, 5:] = 0
    loss = make.call(lm, state, batch)
    log_probabilities = jax.nn.log_softmax(make.call(lm, state, batch, method="logits"))
    chosen = np.take_along_axis(log_probabilities, batch["target_ids"][..., None], -1)[..., 0]
    np.testing.assert_allclose(loss.total, -(chosen * batch["target_weights"]).sum(), rtol=1e-5)
    assert loss.weight == lm.target_weight(batch) == 12 + 5


class SummedHidden(TokenLoss):
    """w_t * sum(|hidden_t|), which nothing else computes."""

    def forward(self, hidden, table, targets, weights, logit_cap=None):
        return jnp.sum(weights[..., None] * jnp.abs(hidden))


def test_any_token_loss_can_be_the_models(make):
    lm, state = make.build(make.llama(loss=SummedHidden.default_config()))
    batch = make.batch()
    hidden = make.call(lm, state, batch, method="hidden")
    expected = (np.abs(np.float64(hidden)) * batch["target_weights"][..., None]).sum()
    np.testing.assert_allclose(make.call(lm, state, batch).total, expected, rtol=1e-5)


def test_capped_logits_are_those_of_loss_and_decoding(make):
    lm, state = make.build(make.llama(logit_cap=0.5))
    plain, batch = make.llama().instantiate(), make.batch()
    logits = make.call(lm, state, batch, method="logits")
    uncapped = make.call(plain, state, batch, method="logits")
    np.testing.assert_allclose(logits, 0.5 * np.tanh(np.float64(uncapped) / 0.5), atol=1e-6)
    chosen = np.take_along_axis(jax.nn.log_softmax(logits), batch["target_ids"][..., None], axis=-1)
    np.testing.assert_allclose(make.call(lm, state, batch).total, -chosen.sum(), rtol=1e-5)
    ids = batch["input_ids"]
    extended, _ = make.call(lm, state, ids, lm.init_cache(2, 12), method="extend")
    np.testing.assert_allclose(extended, logits, atol=1e-5)


def test_prefill_and_decode_equal_the_whole_sequence(make, model):
    lm, state = model
    ids = make.batch(seq=9)["input_ids"]
    logits, cache = make.call(lm, state, ids[:, :5], lm.init_cache(2, 12), method="extend")
    pieces = [logits]
    for index in range(5, 9):
        token = ids[:, index : index + 1]
        logits, cache = make.call(lm, state, token, cache, method="extend")
        pieces.append(logits)
    expected = make.call(lm, state, {"input_ids": ids}, method="logits")
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-5)


def test_prompts_padded_at_their_end_decode_like_unpadded_ones(make, model):
    lm, state = model
    ids = make.batch(seq=9)["input_ids"]
    lengths = np.array([5, 3])
    prompt = np.where(np.arange(6) < lengths[:, None], ids[:, :6], 0)
    _, cache = make.call(lm, state, prompt, lm.init_cache(2, 9), lengths, method="extend")
    following = np.take_along_axis(ids, lengths[:, None], axis=1)
    logits, _ = make.call(lm, state, following, cache, method="extend")
    expected = make.call(lm, state, {"input_ids": ids}, method="logits")
    np.testing.assert_allclose(logits[:, 0], expected[[0, 1], lengths], atol=1e-5)


def test_the_last_logits_alone_are_those_after_the_last_token_that_counts(make, model):
    lm, state = model
    ids = make.batch(seq=5)["input_ids"]

    def extend(lengths, last_only):
        inputs = (ids, lm.init_cache(2, 5), lengths, None, last_only)
        return jax.jit(
            lambda state: functional(
                lm, state=state, prng_key=None, inputs=inputs, method="extend"
            )[0]
        )(state)

    for lengths, last in ((np.array([5, 3]), [4, 2]), (None, [4, 4])):
        logits, cache = extend(lengths, False)
        alone, same = extend(lengths, True)
        np.testing.assert_allclose(alone[:, 0], logits[np.arange(2), last], atol=1e-5)
        np.testing.assert_array_equal(same["length"], cache["length"])


def test_micro_batches_add_up_to_the_batch(make, model):
    lm, state = model
    batch = make.batch(batch=4)
    batch["target_weights"][0, 3:] = 0

    @jax.jit
    @jax.grad
    def gradient(state, batch):
        return functional(lm, state=state, prng_key=None, inputs=(batch,))[0].total

    halves = [jax.tree.map(lambda a, p=part: a[p], batch) for part in (slice(2), slice(2, 4))]
    parts = jax.tree.map(jnp.add, *(gradient(state, half) for half in halves))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), parts, gradient(state, batch)
    )


def test_gradient_equals_that_of_the_naive_loss(make, model):
    lm, state = model
    batch = make.batch()

    def fused(state):
        return functional(lm, state=state, prng_key=None, inputs=(batch,))[0].total

    def naive(state):
        logits = functional(lm, state=state, prng_key=None, inputs=(batch,), method="logits")[0]
        chosen = jax.nn.one_hot(batch["target_ids"], 37)
        return -(jax.nn.log_softmax(logits) * chosen).sum()

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4),
        jax.jit(jax.grad(fused))(state),
        jax.jit(jax.grad(naive))(state),
    )


def test_tied_head_reads_the_embedding(make):
    untied = make.llama().instantiate().parameter_specs()
    tied = make.llama(head=None).instantiate().parameter_specs()
    assert untied.keys() - tied.keys() == {"head"}
    assert parameter_count(untied) - parameter_count(tied) == 37 * 16


def test_dimensions_are_set_once(make):
    state = make.llama(dim=32).instantiate().parameter_specs()
    assert state["embedding"]["weight"].shape == (37, 32)
    assert state["stack"]["layer"]["attention"]["output"]["weight"].shape == (2, 4, 8, 32)


def test_summaries_name_the_loss(make, model):
    lm, state = model
    _, side = functional(lm, state=state, prng_key=None, inputs=(make.batch(),))
    assert side.summaries.keys() == {"loss"}
    assert side.summaries["loss"].keys() == {"cross_entropy", "accuracy"}


def test_activations_have_the_dtype_of_the_parameters_that_are_passed_in(make):
    lm, state = make.build(make.llama())
    batch = make.batch()
    narrow = cast_floats(state, lm.parameter_specs(), "bfloat16")
    program = str(jax.make_jaxpr(lambda x: make.call(lm, x, batch).total)(narrow))
    products = re.findall(r":(\w+)\[[\d,]+\] = dot_general", program)
    assert products.count("bf16") > len(products) / 2
    loss, exact = (make.call(lm, each, batch).total for each in (narrow, state))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, exact, rtol=0.02)


def test_the_cache_has_the_dtype_that_is_asked_for(make):
    lm = make.llama().instantiate()
    assert lm.init_cache(1, 4, "bfloat16")["stack"]["key"].dtype == jnp.bfloat16


def test_flops_are_six_per_weight_and_token_plus_attention(make):
    lm = make.llama().instantiate()
    tokens, layers, heads, head_dim, seq = 2 * 12, 2, 4, 4, 12
    weights = layers * (16 * 8 * 4 + 16 * 16 + 16 * 48 + 24 * 16) + 16 * 37
    attention = 3 * tokens * layers * 4 * seq * heads * head_dim
    assert lm.flops_per_step({"input_ids": (2, 12)}) == 6 * weights * tokens + attention


def test_norms_are_swapped_in_one_call(make):
    cfg = make.llama()
    report = replace(cfg, Norm, LayerNorm.default_config())
    assert [swap.path for swap in report] == ["stack.layer.norm", "norm"]
    assert "bias" in cfg.instantiate().parameter_specs()["norm"]


def test_config_text_of_another_depth_differs_in_one_number(make):
    deep = make.llama()
    deep.stack.num_layers = 320
    lines = zip(to_text(make.llama()).splitlines(), to_text(deep).splitlines(), strict=True)
    assert [pair for pair in lines if pair[0] != pair[1]] == [
        ("stack.num_layers: 2", "stack.num_layers: 320")
    ]


def test_config_text_says_what_differs_from_defaults_only(make):
    assert to_text(make.llama(head=None)) == (
        "# axlearn_layers.causal_lm.CausalLM\n"
        "dim: 16\n"
        "head: null\n"
        "stack.layer.attention.num_heads: 4\n"
        "stack.layer.attention.num_kv_heads: 2\n"
        "stack.layer.attention.qkv: axlearn_layers.rotary.Rotary\n"
        "stack.layer.feed_forward.hidden_dim: 24\n"
        "stack.num_layers: 2\n"
        "vocab_size: 37\n"
    )


def test_json_of_a_config_restores_it(make):
    cfg = make.gpt2()
    cfg.stack.remat = Remat.Config(save="block_hidden")
    registry = get_registry()
    restored = from_json(to_json(cfg, registry), CausalLM.Config, registry)
    assert config_hash(restored) == config_hash(cfg)


def test_all_missing_fields_are_named_at_once():
    with pytest.raises(MissingFieldsError) as error:
        CausalLM.default_config().instantiate()
    assert "vocab_size" in str(error.value) and "dim" in str(error.value)


def test_errors_say_the_path(make):
    cfg = make.llama()
    cfg.stack.layer.attention.num_kv_heads = 3
    with pytest.raises(BuildError, match=r"stack\.layer\.attention failed: num_kv_heads \(=3\)"):
        cfg.instantiate()


def test_norm_before_the_head_is_the_models_own(make):
    assert isinstance(make.llama().instantiate().norm, RMSNorm)
    assert isinstance(make.gpt2().instantiate().norm, LayerNorm)
