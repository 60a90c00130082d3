"""The cooldown against its formula in float64."""

import numpy as np
import pytest
from axlearn_core.config import BuildError, ConfigError
from axlearn_learners import Constant, OptaxLearner, WarmupLinear

from acme_optimizers import CautiousAdamW, SquareRootCooldown

TOTAL = 50


def config(**fields):
    return SquareRootCooldown.Config(
        **{"schedule": Constant.Config(value=0.5), "total_steps": TOTAL} | fields
    )


def cooled(rate, step, length):
    into = step - (TOTAL - length)
    return rate * (1 - np.sqrt(into / length)) if into > 0 else rate


@pytest.mark.parametrize(("cooldown", "length"), [(0.2, 10), (0.25, 12), (7, 7), (TOTAL, TOTAL)])
def test_rates_are_those_of_the_formula(cooldown, length):
    schedule = config(cooldown=cooldown).instantiate()
    expected = [cooled(0.5, step, length) for step in range(TOTAL + 1)]
    np.testing.assert_allclose([schedule(s) for s in range(TOTAL + 1)], expected, atol=1e-6)


def test_it_cools_whatever_it_is_given():
    inner = WarmupLinear.Config(peak=0.3, warmup=10, final_fraction=1.0)
    schedule = config(schedule=inner).instantiate()
    expected = [cooled(0.3 * min(1, (step + 1) / 11), step, 10) for step in range(TOTAL)]
    np.testing.assert_allclose([schedule(s) for s in range(TOTAL)], expected, atol=1e-6)


def test_a_learner_gives_it_the_length_of_the_run():
    optimizer = CautiousAdamW.Config(
        learning_rate=SquareRootCooldown.Config(schedule=Constant.Config(value=0.5))
    )
    learner = OptaxLearner.Config(optimizer=optimizer, total_steps=TOTAL).instantiate(specs={})
    assert float(learner.optimizer.learning_rate(TOTAL)) == 0.0
    assert float(learner.optimizer.learning_rate(TOTAL - 10)) == 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"total_steps": None}, "total_steps is not set"),
        ({"cooldown": TOTAL + 1}, r"cooldown \(=51.0\) must be from 1 step to all of the run"),
        ({"cooldown": 0.001}, r"cooldown \(=0.001\) must be from 1 step"),
        ({"cooldown": -3}, r"cooldown \(=-3.0\) must be from 1 step"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(fields, message):
    with pytest.raises((BuildError, ConfigError), match=message):
        config(**fields).instantiate()
