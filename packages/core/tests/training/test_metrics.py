"""Metrics on their way to the host."""

import jax.numpy as jnp
import numpy as np

from axlearn_core.observe.metrics import MetricsQueue, scalars


class Slow:
    """A value on a device that arrives when somebody waits for it, or when `done` is set."""

    def __init__(self, value, *, done=False):
        self.value, self.done, self.copying = value, done, False

    def copy_to_host_async(self):
        self.copying = True

    def is_ready(self):
        return self.done

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype)


def queue_of(*values, ahead=2):
    queue = MetricsQueue(ahead)
    for step, value in enumerate(values, 1):
        queue.add(step, {"loss": value})
    return queue


def steps(arrived):
    return [metrics.step for metrics in arrived]


def test_what_has_arrived_comes_in_the_order_of_steps():
    assert steps(queue_of(*[Slow(n, done=True) for n in range(4)]).arrived()) == [1, 2, 3, 4]


def test_what_is_under_way_is_not_waited_for():
    assert steps(queue_of(Slow(1), Slow(2)).arrived()) == []


def test_a_later_step_never_overtakes():
    assert steps(queue_of(Slow(1), Slow(2, done=True)).arrived()) == []


def test_at_most_ahead_steps_stay_under_way():
    queue = queue_of(*map(Slow, range(5)), ahead=3)
    assert steps(queue.arrived()) == [1, 2]
    assert steps(queue.arrived()) == []


def test_draining_waits_for_everything():
    queue = queue_of(Slow(1), Slow(2))
    assert steps(queue.drain()) == [1, 2]
    assert steps(queue.drain()) == []


def test_the_copy_to_the_host_starts_at_once():
    value = Slow(1)
    queue_of(value)
    assert value.copying


def test_values_arrive_as_they_were():
    (metrics,) = queue_of(jnp.float32(0.1)).drain()
    assert metrics.values == {"loss": np.float32(0.1)}


def test_a_scalar_keeps_its_name():
    assert scalars({"loss": np.asarray(1.5)}) == {"loss": 1.5}


def test_a_value_per_layer_gets_a_name_per_layer():
    values = {"norm": np.asarray([1.0, 2.0]), "table": np.asarray([[3.0], [4.0]])}
    assert scalars(values) == {"norm/0": 1.0, "norm/1": 2.0, "table/0/0": 3.0, "table/1/0": 4.0}


def test_scalars_are_plain_floats():
    assert {type(v) for v in scalars({"a": np.float32(1)[...], "b": np.ones(2)}).values()} == {
        float
    }
