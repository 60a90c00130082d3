"""What counts as a spike, against numpy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.guards.numbers import Numbers


def judged(values, **fields):
    """Says of each step with a loss, or (loss, gradient norm), whether it is good."""
    numbers = Numbers.Config(**fields).instantiate()
    seen, verdicts = numbers.initial(), []
    for value in values:
        loss, norm = value if isinstance(value, tuple) else (value, 1.0)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        good, seen = numbers.judge(seen, finite, jnp.float32(loss), jnp.float32(norm))
        verdicts.append(bool(good))
    return verdicts, seen


def test_by_default_nothing_is_remembered_and_only_what_is_not_finite_is_bad():
    assert judged([1.0, 1e30, np.nan, np.inf, 1.0]) == ([True, True, False, False, True], {})


def test_a_spike_is_beyond_so_many_standard_deviations_of_the_window_before():
    random = np.random.default_rng(0)
    losses = list(random.normal(5, 1, size=60))
    window, limit, kept, expected = 8, 2.0, [], []
    for loss in losses:
        last = np.array(kept[-window:])
        spike = len(kept) >= window and loss > last.mean() + limit * last.std()
        expected.append(not spike)
        if not spike:
            kept.append(loss)
    verdicts, seen = judged(losses, loss_deviations=limit, window=window)
    assert 3 < expected.count(False) < 20
    assert verdicts == expected
    assert int(seen["made"]) == expected.count(True)


def test_a_gradient_norm_is_judged_by_a_limit_of_its_own():
    steps = [(1.0, norm) for norm in (1, 2, 1, 2, 9, 1)]
    assert judged(steps, gradient_deviations=3.0, window=4)[0] == [True] * 4 + [False, True]


def test_until_the_window_is_full_nothing_is_a_spike():
    assert judged([1.0, 2.0, 99.0, 1.0], loss_deviations=1.0, window=4)[0] == [True] * 4


def test_rounding_of_a_loss_that_stands_still_is_no_spike():
    assert all(judged([1.0, 1.0, 1.0, 1.0001], loss_deviations=1.0, window=3)[0])


def test_what_is_not_finite_is_not_remembered():
    _, seen = judged([1.0, np.nan, 2.0], loss_deviations=5.0, window=2, policy="skip")
    np.testing.assert_array_equal(seen["loss"], [1.0, 2.0])
    assert int(seen["skipped"]) == 1


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"loss_deviations": 0.0}, r"loss_deviations \(=0.0\) must be above 0; write null"),
        ({"gradient_deviations": -1.0}, r"gradient_deviations \(=-1.0\)"),
        ({"window": 1}, r"window \(=1\) must be at least 2"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(fields, says):
    with pytest.raises(ConfigError, match=says):
        Numbers.Config(**fields).instantiate()


def test_an_unknown_policy_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"stop.*skip.*rewind"):
        Numbers.Config(policy="ignore")
