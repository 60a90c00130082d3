import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.module import functional
from axlearn_layers import (
    ClassCrossEntropy,
    FirstToken,
    HeadTransform,
    LastToken,
    MeanPooling,
    MixtureOfExperts,
    Preference,
    SequenceClassifier,
    SquaredError,
)

SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 2]], np.int32)


def classifier(**fields):
    cfg = SequenceClassifier.default_config().set(vocab_size=37, dim=16, **fields)
    cfg.stack.num_layers = 2
    cfg.stack.layer.attention.num_heads = 4
    cfg.stack.layer.feed_forward.hidden_dim = 24
    return cfg


def packed_batch(rng, **arrays):
    ids = rng.integers(0, 37, (2, 6), dtype=np.int32)
    positions = np.array([[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]], np.int32)
    return {"input_ids": ids, "segment_ids": SEGMENTS, "positions": positions} | arrays


@pytest.mark.parametrize(
    "pooling, expected",
    [
        (FirstToken, lambda x: [[x[0, 0], x[0, 3]], [x[1, 0], x[1, 1]]]),
        (LastToken, lambda x: [[x[0, 2], x[0, 4]], [x[1, 0], x[1, 5]]]),
        (
            MeanPooling,
            lambda x: [[x[0, :3].mean(0), x[0, 3:5].mean(0)], [x[1, 0], x[1, 1:].mean(0)]],
        ),
    ],
)
def test_pooling_picks_from_each_sequence(make, rng, pooling, expected):
    x = rng.normal(size=(2, 6, 5)).astype(np.float32)
    member = np.array([[1], [2], [3]]) == SEGMENTS[:, None]
    pooled = make.call(pooling.default_config().instantiate(), {}, x, member)
    np.testing.assert_allclose(pooled[:, :2], np.array(expected(x)), atol=1e-6)
    np.testing.assert_array_equal(pooled[:, 2], 0)  # a sequence without tokens


def test_logits_are_a_projection_of_the_last_token(make, rng):
    model, state = make.build(classifier(num_classes=3))
    batch = packed_batch(rng) | {"segment_ids": np.minimum(SEGMENTS, 1)}
    hidden = np.float64(make.call(model, state, batch, method="hidden"))[[0, 1], [4, 5]]
    output = state["classifier"]["output"]
    logits = make.call(model, state, batch, method="logits")
    np.testing.assert_allclose(logits, hidden @ output["weight"] + output["bias"], atol=1e-5)


def test_transform_comes_before_the_projection(make, rng):
    cfg = classifier(num_classes=3)
    cfg.classifier.transform = HeadTransform.default_config().set(activation="tanh", norm=None)
    model, state = make.build(cfg)
    x = rng.normal(size=(4, 16)).astype(np.float32)
    head = state["classifier"]
    inner = head["transform"]["projection"]
    pooled = np.tanh(np.float64(x) @ inner["weight"] + inner["bias"])
    expected = pooled @ head["output"]["weight"] + head["output"]["bias"]
    np.testing.assert_allclose(make.call(model.classifier, head, x), expected, atol=1e-5)


def test_packed_sequences_score_like_separate_ones(make, rng):
    packed, state = make.build(classifier(num_classes=3, packed=2))
    alone = classifier(num_classes=3).instantiate()
    batch = packed_batch(rng)
    together = make.call(packed, state, batch, method="logits")
    assert together.shape == (2, 2, 3)
    for row, sequence in np.ndindex(2, 2):
        ids = batch["input_ids"][row][SEGMENTS[row] == sequence + 1][None]
        expected = make.call(alone, state, {"input_ids": ids}, method="logits")
        np.testing.assert_allclose(together[row, sequence], expected[0], atol=1e-5)


def test_loss_is_weighted_cross_entropy_per_sequence(make, rng):
    model, state = make.build(classifier(num_classes=3))
    ids = rng.integers(0, 37, (4, 6), dtype=np.int32)
    targets, weights = np.array([2, 0, 1, 1]), np.array([1, 0.5, 0, 1], np.float32)
    batch = {"input_ids": ids, "targets": targets, "target_weights": weights}
    scores = np.float64(make.call(model, state, batch, method="logits"))
    expected = np.log(np.exp(scores).sum(-1)) - scores[range(4), targets]
    loss = make.call(model, state, batch)
    np.testing.assert_allclose(loss.total, (weights * expected).sum(), rtol=1e-5)
    assert loss.weight == model.target_weight(batch) == 2.5


def test_regression_is_the_squared_error(make, rng):
    loss = SquaredError.default_config().set(num_classes=1).instantiate()
    scores = rng.normal(size=(4, 1)).astype(np.float32)
    targets, weights = rng.normal(size=4), np.array([1, 2, 0, 1], np.float32)
    expected = (weights * (scores[:, 0] - targets) ** 2).sum()
    np.testing.assert_allclose(make.call(loss, {}, scores, targets, weights), expected, rtol=1e-5)


def test_preference_between_two_is_the_log_of_a_sigmoid(make, rng):
    loss = Preference.default_config().set(num_classes=1, packed=2).instantiate()
    scores = rng.normal(size=(3, 2, 1)).astype(np.float32)
    targets, weights = np.array([0, 1, 0]), np.array([1, 1, 0.5], np.float32)
    margins = np.where(targets == 0, 1, -1) * (scores[:, 0, 0] - scores[:, 1, 0])
    expected = (weights * np.log1p(np.exp(-margins))).sum()
    np.testing.assert_allclose(make.call(loss, {}, scores, targets, weights), expected, rtol=1e-5)


def test_reward_model_counts_pairs(make, rng):
    model, state = make.build(classifier(num_classes=1, packed=2, loss=Preference.default_config()))
    batch = packed_batch(rng, targets=np.zeros(2, np.int32), target_weights=np.ones(2, np.float32))
    rewards = make.call(model, state, batch, method="logits")[..., 0]
    loss = make.call(model, state, batch)
    np.testing.assert_allclose(
        loss.total, np.log1p(np.exp(rewards[:, 1] - rewards[:, 0])).sum(), rtol=1e-5
    )
    assert loss.weight == 2


def test_auxiliary_losses_are_shared_out_among_the_tokens_of_a_row(make, rng):
    cfg = classifier(num_classes=3)
    experts = MixtureOfExperts.default_config().set(num_experts=4, top_k=2, hidden_dim=8)
    experts.router.z_loss_scale = 0.1
    cfg.stack.layer.feed_forward = experts
    model, state = make.build(cfg)
    weights = np.array([1, 0.5], np.float32)
    batch = packed_batch(rng, targets=np.array([2, 0]), target_weights=weights)
    batch["segment_ids"] = np.minimum(SEGMENTS, 1)

    @jax.jit
    def train(state):
        return functional(model, state=state, prng_key=None, inputs=(batch,), is_training=True)

    loss, outputs = train(state)
    per_token = sum(leaf.sum(axis=0) for leaf in jax.tree.leaves(outputs.losses))
    means = np.array([per_token[0, :5].mean(), per_token[1].mean()])
    added = loss.total - make.call(model, state, batch).total
    np.testing.assert_allclose(added, (weights * means).sum(), rtol=1e-4)


def test_flops_count_the_head_once_per_sequence():
    seq, layers = 6, 2
    per_token = layers * (2 * (16 * 16 * 4 + 16 * 48 + 24 * 16) + 4 * seq * 16)
    one, two = (classifier(num_classes=3, packed=packed).instantiate() for packed in (None, 2))
    expected = 3 * 2 * (seq * per_token + 2 * 16 * 3)
    assert one.flops_per_step({"input_ids": (2, seq)}) == expected
    assert two.flops_per_step({"input_ids": (2, seq)}) == expected + 3 * 2 * 2 * 16 * 3


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_classes": 1}, r"num_classes \(=1\) must be at least 2.*loss=Preference"),
        (
            {"num_classes": 1, "loss": Preference.default_config()},
            r"num_classes \(=1\) must be 1, and packed \(=None\) their number",
        ),
        ({"num_classes": 2, "packed": 0}, r"packed \(=0\) must be at least 1"),
    ],
)
def test_what_cannot_be_learned_is_refused(fields, message):
    with pytest.raises(BuildError, match=message):
        classifier(**fields).instantiate()


def test_packing_without_segments_is_an_error(make, rng):
    model, state = make.build(classifier(num_classes=3, packed=2))
    with pytest.raises(ValueError, match="told apart by segment_ids"):
        make.call(model, state, {"input_ids": np.zeros((1, 4), np.int32)}, method="logits")


def test_accuracy_counts_right_classes():
    loss = ClassCrossEntropy.default_config().set(num_classes=2).instantiate()
    scores = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    inputs = (scores, np.array([0, 1, 1]), np.ones(3, np.float32))
    _, side = functional(loss, state={}, prng_key=None, inputs=inputs)
    np.testing.assert_allclose(side.summaries["accuracy"], 2 / 3)
