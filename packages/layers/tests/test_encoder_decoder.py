import functools

import jax
import numpy as np
import pytest

from axlearn_core.config import ConfigError, replace
from axlearn_core.module import functional
from axlearn_layers import (
    Attention,
    CrossAttention,
    EncoderDecoder,
    FeedForward,
    GatedFeedForward,
    LearnedPositions,
    MixtureOfExperts,
    MultiLoRA,
    Projection,
    SharedBias,
    T5Bias,
)


def transformer(**fields):
    """Learned positions on both sides."""
    cfg = EncoderDecoder.default_config().set(vocab_size=37, dim=16, **fields)
    replace(cfg, FeedForward, GatedFeedForward.default_config().set(hidden_dim=24))
    replace(cfg, Attention, lambda old: old.set(num_heads=4))
    replace(cfg, CrossAttention, lambda old: old.set(num_heads=4))
    for side in (cfg.encoder, cfg.decoder):
        side.positions = LearnedPositions.default_config().set(max_length=32)
        side.stack.num_layers = 2
    return cfg


def t5(**fields):
    """One relative bias for each stack, a scaled and tied head."""
    cfg = transformer(head=None, scale=0.25, **fields)
    for side in (cfg.encoder, cfg.decoder):
        bias = T5Bias.default_config().set(
            num_heads=4, num_buckets=8, max_distance=10, both_directions=side is cfg.encoder
        )
        stack = SharedBias.default_config().set(inner=side.stack, bias=bias)
        side.set(stack=stack, positions=None)
    return cfg


@pytest.fixture(params=[transformer, t5])
def model(request, make):
    return make.build(request.param())


@pytest.fixture
def batch(make, rng):
    return make.batch(seq=9) | {"encoder_ids": rng.integers(0, 37, (2, 7), dtype=np.int32)}


@functools.partial(jax.jit, static_argnames=("model", "last_only"))
def extend(model, state, inputs, last_only=False):
    inputs = inputs | {"last_only": last_only}
    return functional(model, state=state, prng_key=None, inputs=inputs, method="extend")[0]


def decode(make, model, state, batch, prompt, memory_segments=None):
    """Returns the logits of a prompt and then of one token after the other."""
    if memory_segments is not None:
        batch = batch | {"encoder_segment_ids": memory_segments}
    memory = make.call(model, state, batch, method="encode")
    ids, cache = batch["input_ids"], model.init_cache(2, 12)
    begun = {"input_ids": ids[:, :prompt], "cache": cache, "memory": memory}
    logits, cache = extend(model, state, begun)
    pieces = [logits]
    for index in range(prompt, ids.shape[1]):
        token = ids[:, index : index + 1]
        logits, cache = make.call(model, state, token, cache, method="extend")
        pieces.append(logits)
    return np.concatenate(pieces, axis=1)


def test_loss_is_that_of_the_logits(make, model, batch):
    lm, state = model
    batch["target_weights"][1, 5:] = 0
    loss = make.call(lm, state, batch)
    log_probabilities = jax.nn.log_softmax(make.call(lm, state, batch, method="logits"))
    chosen = np.take_along_axis(log_probabilities, batch["target_ids"][..., None], -1)[..., 0]
    np.testing.assert_allclose(loss.total, -(chosen * batch["target_weights"]).sum(), rtol=1e-5)
    assert loss.weight == lm.target_weight(batch) == 9 + 5


def test_prefill_and_decode_equal_the_whole_sequence(make, model, batch):
    lm, state = model
    segments = np.array([[1] * 7, [1] * 4 + [0] * 3], np.int32)
    whole = batch | {"encoder_segment_ids": segments}
    expected = make.call(lm, state, whole, method="logits")
    logits = decode(make, lm, state, batch, prompt=5, memory_segments=segments)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_prompts_padded_at_their_end_decode_like_unpadded_ones(make, model, batch):
    lm, state = model
    ids, lengths = batch["input_ids"], np.array([5, 3])
    memory = make.call(lm, state, batch, method="encode")
    inputs = {"input_ids": ids[:, :6], "cache": lm.init_cache(2, 9)}
    _, cache = extend(lm, state, inputs | {"lengths": lengths, "memory": memory})
    following = np.take_along_axis(ids, lengths[:, None], axis=1)
    logits, _ = make.call(lm, state, following, cache, method="extend")
    expected = make.call(lm, state, batch, method="logits")
    np.testing.assert_allclose(logits[:, 0], expected[[0, 1], lengths], atol=1e-5)


def test_prefill_encodes_prompts_and_begins_with_the_start_id(make, batch):
    lm, state = make.build(transformer(start_id=5))
    lengths = np.array([7, 4])
    prompts = (batch["encoder_ids"], lm.init_cache(2, 9), lengths)
    first, cache = make.call(lm, state, *prompts, method="prefill")
    further = {"input_ids": batch["input_ids"][:, :6], "cache": cache, "lengths": np.array([6, 2])}
    last, _ = extend(lm, state, further, last_only=True)
    whole = batch | {"encoder_segment_ids": (np.arange(7) < lengths[:, None]).astype(np.int32)}
    whole["input_ids"] = np.insert(batch["input_ids"][:, :6], 0, 5, axis=1)
    expected = make.call(lm, state, whole, method="logits")
    np.testing.assert_allclose(first[:, 0], expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(last[:, 0], expected[[0, 1], [6, 2]], atol=1e-5)


def test_both_sides_choose_adapters_by_row(make, batch):
    cfg, kind = transformer(), MultiLoRA.default_config().set(num_adapters=2, rank=2)
    replace(cfg, Projection, lambda old: kind.clone(inner=old))
    lm, state = make.build(cfg)
    start, adapters = np.zeros((2, 1), np.int32), np.array([1, -1])
    plain = {"encoder_ids": batch["encoder_ids"], "input_ids": start}
    adapted = make.call(lm, state, plain | {"adapter_ids": adapters}, method="logits")
    prompts = (batch["encoder_ids"], lm.init_cache(2, 9), None, adapters)
    first, _ = make.call(lm, state, *prompts, method="prefill")
    np.testing.assert_allclose(first, adapted, atol=1e-5)
    moved = np.abs(adapted - make.call(lm, state, plain, method="logits")).max(axis=(1, 2))
    assert moved[0] > 1e-2 > 1e-5 > moved[1]


def test_the_longest_sequence_is_that_of_the_shorter_table():
    cfg = transformer()
    cfg.decoder.positions.max_length = 16
    assert cfg.instantiate().max_length == 16
    assert t5().instantiate().max_length is None


def test_a_start_id_beyond_the_vocabulary_is_an_error():
    with pytest.raises(ConfigError, match=r"start_id \(=37\) must be an id, from 0 to 36"):
        transformer(start_id=37).instantiate()


def test_decoding_without_a_memory_is_an_error(make, model, batch):
    lm, state = model
    with pytest.raises(ConfigError, match="give it to the first `extend`"):
        make.call(lm, state, batch["input_ids"], lm.init_cache(2, 9), method="extend")


def test_the_decoder_sees_all_of_the_encoder_and_nothing_of_its_future(make, model, batch):
    lm, state = model
    before = make.call(lm, state, batch, method="logits")
    for name, place in (("encoder_ids", 6), ("input_ids", 5)):
        changed = batch | {name: batch[name].copy()}
        changed[name][:, place] = (changed[name][:, place] + 1) % 37
        after = make.call(lm, state, changed, method="logits")
        moved = np.abs(after - before).max(axis=(0, 2)) > 1e-5
        assert moved.tolist() == [name == "encoder_ids" or i >= 5 for i in range(9)]


def test_padding_of_the_encoder_changes_nothing(make, model, batch):
    lm, state = model
    short = batch | {"encoder_ids": batch["encoder_ids"][:, :4]}
    segments = (np.arange(7) < 4).astype(np.int32)[None].repeat(2, 0)
    padded = batch | {"encoder_segment_ids": segments}
    alone, beside = (make.call(lm, state, each, method="logits") for each in (short, padded))
    np.testing.assert_allclose(alone, beside, atol=1e-5)


def test_packed_pairs_equal_separate_ones(make, model, batch):
    lm, state = model
    sides = {"encoder_": [3, 4], "": [4, 5]}
    packed = dict(batch)
    for side, sizes in sides.items():
        packed[f"{side}segment_ids"] = np.repeat([[1, 2]], sizes, axis=1).repeat(2, 0)
        packed[f"{side}positions"] = np.concatenate([np.arange(n) for n in sizes])[None].repeat(
            2, 0
        )
    together = make.call(lm, state, packed, method="logits")
    for memory, part in ((slice(0, 3), slice(0, 4)), (slice(3, 7), slice(4, 9))):
        alone = {"encoder_ids": batch["encoder_ids"][:, memory]}
        alone["input_ids"] = batch["input_ids"][:, part]
        expected = make.call(lm, state, alone, method="logits")
        np.testing.assert_allclose(together[:, part], expected, atol=1e-5)


def test_scale_multiplies_what_the_tied_head_reads(make, batch):
    scaled, state = make.build(t5())
    plain = t5().set(scale=None).instantiate()
    logits, four_times = (
        make.call(each, state, batch, method="logits") for each in (scaled, plain)
    )
    np.testing.assert_allclose(4 * logits, four_times, rtol=1e-5)


def test_auxiliary_losses_of_both_sides_are_added(make, batch):
    cfg = transformer()
    experts = MixtureOfExperts.default_config().set(num_experts=4, top_k=2, hidden_dim=8)
    experts.router.z_loss_scale = 0.1
    replace(cfg, FeedForward, experts)
    model, state = make.build(cfg)
    batch["encoder_segment_ids"] = np.array([[1] * 7, [1] * 4 + [0] * 3], np.int32)
    batch["target_weights"][1, 5:] = 0

    @jax.jit
    def train(state):
        return functional(model, state=state, prng_key=None, inputs=(batch,), is_training=True)

    loss, outputs = train(state)
    decoder, encoder = (
        sum(leaf.sum(axis=0) for leaf in jax.tree.leaves(outputs.losses[side]))
        for side in ("decoder", "encoder")
    )
    expected = (decoder * batch["target_weights"]).sum()
    expected += 9 * encoder[0].mean() + 5 * encoder[1, :4].mean()
    added = loss.total - make.call(model, state, batch).total
    np.testing.assert_allclose(added, expected, rtol=1e-4)


def test_flops_count_both_sides_by_their_own_length():
    model = transformer().instantiate()
    attention, feed_forward = 16 * 16 * 4, 16 * 48 + 24 * 16
    encoder = 2 * (2 * (attention + feed_forward) + 4 * 7 * 16)
    decoder = 2 * (2 * (2 * attention + feed_forward) + 2 * 4 * 9 * 16) + 2 * 16 * 37
    shapes = {"input_ids": (2, 9), "encoder_ids": (2, 7)}
    assert model.flops_per_step(shapes) == 3 * 2 * (7 * encoder + 9 * decoder)
