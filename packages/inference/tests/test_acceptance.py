"""The acceptance rule gives the target's distribution, whatever the draft proposes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from axlearn_inference.request import Sampling
from axlearn_inference.sampling import draw, rules
from axlearn_inference.speculative import accept, probabilities

VOCAB, DRAWS = 6, 20_000
SEEDS = np.arange(1000, dtype=np.uint32)
SIGNIFICANCE = 1e-3  # of each chi-square test; seeds are fixed, so a test passes always or never


compiled = functools.cache(jax.jit)


def distributions(*shape, seed):
    return np.random.default_rng(seed).dirichlet(np.full(VOCAB, 0.5), shape)


def p_value(found, expected):
    """Of Pearson's test, over ids that can occur; none of the others may."""
    counts = np.bincount(found, minlength=len(expected))
    possible = expected > 0
    assert counts[~possible].sum() == 0
    return stats.chisquare(counts[possible], expected[possible] * counts.sum()).pvalue


@pytest.fixture(scope="module")
def many():
    """20,000 rows of two proposals that numpy has drawn from q, and what is accepted."""
    p, q = distributions(3, seed=0), distributions(2, seed=1)
    rng = np.random.default_rng(2)
    proposed = np.stack([rng.choice(VOCAB, DRAWS, p=each) for each in q], axis=1)
    rows = [jnp.broadcast_to(x, (DRAWS, *x.shape)).astype(jnp.float32) for x in (q, p)]
    seeds = jnp.arange(DRAWS, dtype=jnp.uint32)
    accepted = compiled(accept)(proposed.astype(np.int32), *rows, seeds, jnp.zeros(DRAWS, int))
    return p, q, proposed, jax.device_get(accepted)


def test_each_token_has_the_distribution_of_the_target(many):
    p, _, _, (tokens, count) = many
    for place in range(3):
        assert p_value(tokens[count > place, place], p[place]) > SIGNIFICANCE


def test_what_is_proposed_has_another_distribution(many):
    p, _, proposed, _ = many
    assert p_value(proposed[:, 0], p[0]) < 1e-100


def test_proposals_are_accepted_as_often_as_the_distributions_overlap(many):
    p, q, _, (_, count) = many
    overlap = np.minimum(p[:2], q).sum(axis=-1)
    expected = overlap[0], overlap[0] * overlap[1]
    for place, share in enumerate(expected):
        spread = np.sqrt(share * (1 - share) / DRAWS)
        assert abs((count > place + 1).mean() - share) < 3.3 * spread  # 1 in 1000


def test_what_is_accepted_is_what_was_proposed(many):
    _, _, proposed, (tokens, count) = many
    for place in range(2):
        rows = count > place + 1
        np.testing.assert_array_equal(tokens[rows, place], proposed[rows, place])


def test_a_token_that_the_target_rules_out_is_never_accepted():
    p = np.array([[[0.5, 0.5, 0], [0, 0, 1]]], np.float32).repeat(1000, axis=0)
    q = np.array([[[0, 0, 1]]], np.float32).repeat(1000, axis=0)
    proposed = np.full((1000, 1), 2, np.int32)
    tokens, count = compiled(accept)(proposed, q, p, SEEDS, jnp.zeros(1000, int))
    assert set(np.asarray(count)) == {1}
    assert set(np.asarray(tokens)[:, 0]) == {0, 1}


def test_equal_distributions_accept_everything():
    p = distributions(1000, 4, seed=3).astype(np.float32)
    proposed = p[:, :3].argmax(axis=-1).astype(np.int32)
    _, count = compiled(accept)(proposed, p[:, :3], p, SEEDS, jnp.zeros(1000, int))
    assert set(np.asarray(count)) == {4}


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5, top_k=4),
        Sampling(top_p=0.7),
        Sampling(temperature=2, min_p=0.3),
    ],
    ids=["plain", "top-k", "top-p", "min-p"],
)
def test_the_probabilities_are_those_that_draw_draws_from(sampling):
    logits = np.random.default_rng(4).normal(size=VOCAB).astype(np.float32)
    many = jnp.broadcast_to(logits, (DRAWS, VOCAB))
    every = rules([sampling] * DRAWS, VOCAB)
    found = compiled(draw)(many, every, jnp.arange(DRAWS)).token
    one = jax.tree.map(lambda x: x[:1], every)
    expected = np.float64(compiled(probabilities)(many[:1], one, None)[0])
    assert p_value(np.asarray(found), expected / expected.sum()) > SIGNIFICANCE


def test_greedy_probabilities_are_all_on_the_likeliest_id():
    logits = np.random.default_rng(5).normal(size=(3, VOCAB)).astype(np.float32)
    greedy = rules([Sampling(temperature=0)] * 3, VOCAB)
    found = compiled(probabilities)(logits, greedy, None)
    np.testing.assert_array_equal(found, np.eye(VOCAB)[logits.argmax(axis=-1)])
