"""Every rule against numpy in float64, and chance that a row's seed and place alone decide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_inference.request import Sampling
from axlearn_inference.sampling import TOP, adjusted, draw, keep_likely, rules

VOCAB = 600  # more than two blocks of the running sum, and not a multiple of one
RULES = [
    Sampling(),
    Sampling(top_k=1),
    Sampling(top_k=7),
    Sampling(top_k=10**6),
    Sampling(top_p=0.3),
    Sampling(top_p=0.95),
    Sampling(top_p=1e-6),
    Sampling(min_p=0.05),
    Sampling(min_p=1.0),
    Sampling(top_k=20, top_p=0.7, min_p=0.01),
    Sampling(top_k=300, top_p=0.99, min_p=0.3),
]


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(0).normal(size=(len(RULES), VOCAB)).astype(np.float32) * 3


@pytest.fixture(scope="module")
def compiled():
    return jax.jit(draw)


def kept_by_sorting(scores, rule):
    """The ids that stay, one after the other from the likeliest."""
    p = np.exp(scores - scores.max())
    order = np.argsort(-p)[: rule.top_k]
    share = p[order] / p[order].sum()
    before = np.cumsum(share) - share
    stays = (before < rule.top_p) & (share >= rule.min_p * share[0])
    return set(order[stays].tolist())


def test_filters_keep_what_sorting_keeps(logits):
    filtered = jax.jit(keep_likely)(logits, rules(RULES, VOCAB))
    for rule, before, after in zip(RULES, logits.astype(np.float64), filtered, strict=True):
        kept = set(np.flatnonzero(np.isfinite(after)).tolist())
        assert kept == kept_by_sorting(before, rule), rule
        np.testing.assert_array_equal(after[np.array([*kept])], np.float32(before[[*kept]]))


def test_equal_scores_stay_together():
    scores = jnp.array([[1.0, 1.0, 0.0, -1.0]])
    kept = np.isfinite(keep_likely(scores, rules([Sampling(top_k=1)], 4)))
    assert kept.tolist() == [[True, True, False, False]]


def test_penalties_are_those_of_the_papers():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, 50))
    counts, in_prompt = rng.integers(0, 3, (4, 50)), rng.random((4, 50)) < 0.3
    samplings = [
        Sampling(repetition_penalty=1.3),
        Sampling(presence_penalty=0.7),
        Sampling(frequency_penalty=-0.4),
        Sampling(repetition_penalty=0.8, presence_penalty=0.1, frequency_penalty=0.2),
    ]
    found = adjusted(
        jnp.float32(scores),
        rules(samplings, 50),
        in_prompt=jnp.asarray(in_prompt),
        counts=jnp.asarray(counts),
    )
    for row, each in enumerate(samplings):
        for i in range(50):
            x = scores[row, i]
            if counts[row, i] or in_prompt[row, i]:
                x = x / each.repetition_penalty if x > 0 else x * each.repetition_penalty
            x -= each.presence_penalty * bool(counts[row, i])
            x -= each.frequency_penalty * counts[row, i]
            # One rounding of float32 per operation.
            np.testing.assert_allclose(found[row, i], x, rtol=1e-6, atol=1e-6)


def test_a_mask_forbids_by_bits():
    allowed = np.random.default_rng(2).random((2, 70)) < 0.5
    padded = np.pad(allowed, ((0, 0), (0, 96 - 70)))
    mask = np.packbits(padded, axis=-1, bitorder="little").view(np.int32)
    found = adjusted(jnp.zeros((2, 70)), rules([Sampling()] * 2, 70), mask=jnp.asarray(mask))
    np.testing.assert_array_equal(np.isfinite(found), allowed)


def test_temperature_zero_takes_the_likeliest_beside_rows_that_draw(logits, compiled):
    greedy = [Sampling(temperature=0), Sampling(temperature=5.0)] * 4
    found = compiled(logits[:8], rules(greedy, VOCAB), jnp.zeros(8, jnp.int32))
    assert found.token[::2].tolist() == logits[:8:2].argmax(-1).tolist()


def test_log_probabilities_are_the_model_s_before_temperature_and_filters(logits, compiled):
    cold = [Sampling(temperature=0.3, top_k=3, seed=7)] * len(RULES)
    found = compiled(logits, rules(cold, VOCAB), jnp.zeros(len(RULES), jnp.int32))
    exact = logits.astype(np.float64)
    exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
    order = np.argsort(-exact, axis=-1)[:, :TOP]
    np.testing.assert_array_equal(found.top_tokens, order)
    # A sum of 600 terms in float32.
    np.testing.assert_allclose(
        found.top_logprobs, np.take_along_axis(exact, order, axis=-1), atol=2e-5
    )
    chosen = np.take_along_axis(exact, np.asarray(found.token)[:, None], axis=-1)[:, 0]
    np.testing.assert_allclose(found.logprob, chosen, atol=2e-5)


def test_draws_follow_the_distribution():
    """Pearson's chi-square of 4,000 draws, over ids that are expected at least 5 times."""
    count, rule = 4_000, Sampling(temperature=1.7, top_p=0.9, seed=3)
    scores = np.random.default_rng(4).normal(size=VOCAB).astype(np.float32) * 2
    found = jax.jit(draw)(
        jnp.tile(scores, (count, 1)), rules([rule] * count, VOCAB), jnp.arange(count)
    )
    warm = scores.astype(np.float64) / 1.7
    kept = list(kept_by_sorting(warm, rule))
    expected = np.zeros(VOCAB)
    expected[kept] = np.exp(warm[kept]) / np.exp(warm[kept]).sum() * count
    drawn = np.bincount(found.token, minlength=VOCAB)
    assert drawn[expected == 0].sum() == 0
    often = expected >= 5
    statistic = ((drawn[often] - expected[often]) ** 2 / expected[often]).sum()
    freedom = often.sum()
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)  # 4 standard deviations


def test_a_row_draws_the_same_alone_and_among_others(logits, compiled):
    samplings = [Sampling(temperature=3.0, seed=seed, top_p=0.99) for seed in range(8)]
    index = jnp.arange(8)
    together = compiled(logits[:8], rules(samplings, VOCAB), index).token
    order = np.random.default_rng(5).permutation(8)
    mixed = compiled(logits[order], rules([samplings[i] for i in order], VOCAB), index[order]).token
    np.testing.assert_array_equal(mixed, together[order])
    alone = compiled(logits[3:4], rules(samplings[3:4], VOCAB), index[3:4]).token
    assert alone[0] == together[3]


def test_another_seed_or_place_draws_anew(compiled):
    flat = jnp.zeros((64, VOCAB))
    seeds = compiled(flat, rules([Sampling(seed=s) for s in range(64)], VOCAB), jnp.zeros(64, int))
    places = compiled(flat, rules([Sampling()] * 64, VOCAB), jnp.arange(64))
    assert len(set(seeds.token.tolist())) > 50  # of 600, with few drawn twice
    assert len(set(places.token.tolist())) > 50


def test_what_weighs_nothing_is_never_drawn():
    """Only two ids at the ends of the vocabulary may come."""
    scores = jnp.full((200, VOCAB), -jnp.inf).at[:, [0, -1]].set(0.0)
    found = jax.jit(draw)(scores, rules([Sampling()] * 200, VOCAB), jnp.arange(200)).token
    assert set(found.tolist()) == {0, VOCAB - 1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("top_k", 0),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("repetition_penalty", 0),
    ],
)
def test_a_value_out_of_range_is_refused(field, value):
    with pytest.raises(UserError, match=field):
        Sampling(**{field: value})
