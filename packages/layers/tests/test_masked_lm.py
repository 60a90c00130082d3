import jax
import numpy as np
import pytest

from axlearn_core.module import functional
from axlearn_layers import Embedding, LayerNorm, LearnedPositions, MaskedLM


def bert(**fields):
    """A tiny encoder with everything that BERT adds: types, norm of the embeddings, transform."""
    cfg = MaskedLM.default_config().set(vocab_size=37, dim=16, norm=None, **fields)
    cfg.positions = LearnedPositions.default_config().set(max_length=32)
    cfg.token_types = Embedding.default_config().set(vocab_size=2)
    cfg.embedding_norm = LayerNorm.default_config()
    cfg.stack.num_layers = 2
    cfg.stack.layer.attention.num_heads = 4
    cfg.stack.layer.feed_forward.hidden_dim = 24
    return cfg


@pytest.fixture
def batch(make, rng):
    hidden = rng.random((2, 12)) < 0.3
    types = np.arange(12) >= np.array([[5], [8]])
    types = types.astype(np.int32)
    return make.batch() | {"target_weights": hidden.astype(np.float32), "token_types": types}


def test_loss_is_that_of_the_logits_bias_included(make, batch):
    lm, state = make.build(bert())
    loss = make.call(lm, state, batch)
    log_probabilities = jax.nn.log_softmax(make.call(lm, state, batch, method="logits"))
    chosen = np.take_along_axis(log_probabilities, batch["target_ids"][..., None], -1)[..., 0]
    np.testing.assert_allclose(loss.total, -(chosen * batch["target_weights"]).sum(), rtol=1e-5)
    assert loss.weight == lm.target_weight(batch) == batch["target_weights"].sum()


def test_gradient_equals_that_of_the_naive_loss(make, batch):
    lm, state = make.build(bert())

    def fused(state):
        return functional(lm, state=state, prng_key=None, inputs=(batch,))[0].total

    def naive(state):
        logits = functional(lm, state=state, prng_key=None, inputs=(batch,), method="logits")[0]
        chosen = jax.nn.one_hot(batch["target_ids"], 37) * batch["target_weights"][..., None]
        return -(jax.nn.log_softmax(logits) * chosen).sum()

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4),
        jax.jit(jax.grad(fused))(state),
        jax.jit(jax.grad(naive))(state),
    )


def test_logits_add_a_bias_to_products_with_the_tied_table(make, batch):
    lm, state = make.build(bert(transform=None))
    hidden = np.float64(make.call(lm, state, batch, method="hidden"))
    expected = hidden @ np.float64(state["embedding"]["weight"]).T + state["head_bias"]
    logits = make.call(lm, state, batch, method="logits")
    np.testing.assert_allclose(logits, expected, atol=1e-4)  # sums of 16 float32 products


def test_every_place_sees_later_tokens(make, batch):
    lm, state = make.build(bert())
    changed = batch | {"input_ids": batch["input_ids"].copy()}
    changed["input_ids"][:, 11] = (changed["input_ids"][:, 11] + 1) % 37
    before, after = (make.call(lm, state, each, method="logits") for each in (batch, changed))
    assert (np.abs(before - after).max(axis=-1) > 1e-4).all()


def test_padding_changes_nothing(make, batch):
    lm, state = make.build(bert())
    short = {name: array[:, :8] for name, array in batch.items()}
    padded = batch | {"segment_ids": (np.arange(12) < 8).astype(np.int32)[None].repeat(2, 0)}
    alone, beside = (make.call(lm, state, each, method="logits") for each in (short, padded))
    np.testing.assert_allclose(alone, beside[:, :8], atol=1e-5)


def test_tokens_without_types_have_type_0(make, batch):
    lm, state = make.build(bert())
    untyped = {name: array for name, array in batch.items() if name != "token_types"}
    zero, one = (untyped | {"token_types": np.full((2, 12), t, np.int32)} for t in (0, 1))
    results = [make.call(lm, state, each, method="logits") for each in (untyped, zero, one)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.allclose(results[1], results[2], atol=1e-2)


def test_flops_are_six_per_weight_and_token_plus_attention():
    lm = bert().instantiate()
    tokens, layers, seq = 2 * 12, 2, 12
    weights = layers * (16 * 16 * 4 + 16 * 48 + 24 * 16) + 16 * 16 + 16 * 37
    attention = 3 * tokens * layers * 4 * seq * 16
    assert lm.flops_per_step({"input_ids": (2, 12)}) == 6 * weights * tokens + attention
