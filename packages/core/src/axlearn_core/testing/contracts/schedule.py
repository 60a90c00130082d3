"""The contract of schedules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.testing.contracts.subject import compiled
from axlearn_core.training.schedule import Schedule


class ScheduleContract(ConfigContract):
    """A schedule is a function of the step, which gives a finite rate before and after the end.

    The example sets its `total_steps`, some tens at most.
    """

    def schedule(self) -> Schedule:
        schedule: Schedule = self.build(self.config())
        return schedule

    def steps(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Returns the steps of the example, and as many after it."""
        return np.arange(2 * (self.config().total_steps or 10), dtype=np.int32)

    def test_a_rate_is_one_float32(self) -> None:
        rate = jax.eval_shape(self.schedule(), jax.ShapeDtypeStruct((), jnp.int32))
        assert rate == jax.ShapeDtypeStruct((), jnp.float32)

    def test_rates_are_finite_and_not_negative(self) -> None:
        rates = np.asarray(compiled(jax.vmap(self.schedule()))(self.steps()))
        assert np.isfinite(rates).all()
        assert (rates >= 0).all()

    def test_some_update_of_the_run_has_a_rate(self) -> None:
        rates = np.asarray(compiled(jax.vmap(self.schedule()))(self.steps()))
        assert rates[: len(rates) // 2].any(), "a run with this schedule learns nothing"

    def test_a_rate_depends_on_its_step_alone(self) -> None:
        """The steps come in another order, one by one, as numbers and from a compiled program."""
        schedule, steps = self.schedule(), self.steps()
        rates = np.asarray(compiled(jax.vmap(schedule))(steps))
        chosen = [0, len(steps) // 2, 1, len(steps) - 1]
        one_by_one = [float(schedule(int(steps[i]))) for i in reversed(chosen)]
        # A compiler may fuse and reorder: some units in the last of float32's 24 bits.
        scale = float(rates.max())
        expected = rates[list(reversed(chosen))]
        np.testing.assert_allclose(one_by_one, expected, rtol=1e-6, atol=1e-6 * scale)
