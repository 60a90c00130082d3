"""axl config show --plot: which schedule, how long it is, and the curve."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.cli.plot import curve, key_points
from axlearn_core.config import REQUIRED, ConfigBase, ConfigError
from axlearn_core.observe.chart import line_chart
from axlearn_core.testing import tiny
from axlearn_core.training.schedule import Schedule, build_schedule, give_length


class Ramp(Schedule):
    """Falls from 1 to 0 over its length."""

    def __call__(self, step):
        return 1 - jnp.asarray(step, jnp.float32) / self.config.total_steps


class Half(Schedule):
    """Gives the schedule inside half of its own length, as phases do."""

    class Config(Schedule.Config):
        inner: Schedule.Config = Ramp.default_config()

    def __init__(self, config):
        super().__init__(config)
        config.inner.total_steps = config.total_steps // 2
        self.inner = config.inner.instantiate()

    def __call__(self, step):
        return self.inner(step)


class Broken(Schedule):
    class Config(Schedule.Config):
        peak: float = REQUIRED

    def __call__(self, step):
        return jnp.where(step == 3, jnp.nan, 1.0)


class Part(ConfigBase):
    rate: Schedule.Config = Ramp.default_config()


class Learner(tiny.GradientDescent):
    class Config(tiny.GradientDescent.Config):
        rate: Schedule.Config = Ramp.default_config()
        parts: dict[str, Part] = {"a": Part()}
        nested: Half.Config = Half.default_config()
        broken: Broken.Config = Broken.default_config()


class Around(tiny.GradientDescent):
    class Config(tiny.GradientDescent.Config):
        learner: Learner.Config = Learner.default_config()


def experiment():
    return tiny.experiment().set(learner=Around.default_config())


EXPERIMENT = f"{__name__}:experiment"
RATE = "learner.learner.rate"


@pytest.fixture
def plot(axl):
    def plot(path, *words):
        return axl("config", "show", EXPERIMENT, *words, "--plot", path)

    return plot


def built(path, **fields):
    cfg = experiment().set(**fields)
    return build_schedule(cfg, path)


# Length.


def test_a_schedule_is_as_long_as_the_run():
    assert built(RATE).config.total_steps == 20


def test_the_nearest_learner_that_has_a_length_gives_it():
    cfg = experiment()
    cfg.learner.total_steps = 50
    assert build_schedule(cfg, RATE).config.total_steps == 50
    cfg.learner.learner.total_steps = 40
    assert build_schedule(cfg, RATE).config.total_steps == 40
    assert build_schedule(cfg, "learner.learner.parts.a.rate").config.total_steps == 40


def test_a_schedule_keeps_a_length_of_its_own():
    cfg = experiment()
    cfg.learner.learner.rate.total_steps = 30
    assert build_schedule(cfg, RATE).config.total_steps == 30


def test_a_schedule_within_another_has_the_length_that_this_one_gives_it():
    assert built("learner.learner.nested.inner").config.total_steps == 10


def test_a_length_is_given_to_outermost_schedules_that_lack_one():
    cfg = Learner.default_config()
    cfg.rate.total_steps = 5
    give_length(cfg, 7)
    assert (cfg.rate.total_steps, cfg.nested.total_steps) == (5, 7)
    assert cfg.nested.inner.total_steps is None
    assert cfg.parts["a"].rate.total_steps == 7


# The command.


def test_the_chart_has_axes_and_key_points_below(plot, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    done = plot(RATE)
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0] == RATE
    assert lines[2].startswith("  1 |'")
    assert lines[15] == "    +" + "-" * 55
    assert lines[16].split() == ["0", "9", "19"]
    assert max(map(len, lines)) <= 60
    rows = [line.split(maxsplit=2) for line in lines[-3:]]
    assert rows == [["STEP", "VALUE"], ["0", "1", "start, peak"], ["19", "0.05", "end"]]


def test_overrides_count(plot):
    done = plot(RATE, "learner.total_steps=100")
    assert done.out.splitlines()[-2:] == ["19    0.81   last update (max_step)", "99    0.01   end"]


def test_json_gives_the_points(axl):
    done = axl("config", "show", EXPERIMENT, "max_step=4", "--plot", RATE, "--json")
    found = json.loads(done.out)
    assert found["points"] == [[0, 1.0], [1, 0.75], [2, 0.5], [3, 0.25]]
    assert found["path"] == RATE
    assert found["key_points"] == [
        {"name": "start, peak", "step": 0, "value": 1.0},
        {"name": "end", "step": 3, "value": 0.25},
    ]


def test_json_of_a_long_run_gives_a_thousand_points_from_the_first_to_the_last(axl):
    done = axl("config", "show", EXPERIMENT, "max_step=5000", "--plot", RATE, "--json")
    steps = [step for step, _ in json.loads(done.out)["points"]]
    assert (len(steps), steps[0], steps[-1]) == (1000, 0, 4999)


def test_a_path_without_a_schedule_lists_those_that_have_one(plot):
    done = plot("learner.learner.rat")
    assert done.code == 1
    assert "Did you mean 'learner.learner.rate'" in done.err
    assert "learner.learner.nested.inner" in done.err


def test_an_experiment_without_schedules_says_so(axl, tiny):
    done = axl("config", "show", tiny, "--plot", "learner.learning_rate")
    assert done.code == 1
    assert "There is none in all of it" in done.err


def test_a_schedule_that_cannot_be_built_is_named(plot):
    done = plot("learner.learner.broken")
    assert done.code == 1
    assert "learner.learner.broken: 1 required field is not set" in done.err


def test_a_value_that_is_not_finite_is_named(plot):
    done = plot("learner.learner.broken", "learner.learner.broken.peak=1")
    assert done.code == 1
    assert "learner.learner.broken is nan at step 3" in done.err


def test_full_and_plot_together_are_wrong_usage(axl):
    done = axl("config", "show", EXPERIMENT, "--full", "--plot", RATE)
    assert done.code == 2


# Key points, and the picture.


def points(values, **options):
    return key_points(np.asarray(values, np.float32), **options)


def test_key_points_of_warm_up_plateau_and_decay():
    assert points([1, 2, 3, 3, 3, 2, 1]) == {
        0: "start",
        2: "end of warm-up, peak",
        4: "end of peak",
        6: "end",
    }


def test_a_peak_after_the_first_rise_is_told_apart_from_it():
    assert points([1, 2, 1, 3, 1]) == {0: "start", 1: "end of warm-up", 3: "peak", 4: "end"}


def test_a_constant_has_neither_warm_up_nor_end_of_peak():
    assert points([2, 2, 2]) == {0: "start, peak", 2: "end"}


def test_a_rise_to_the_end_is_all_warm_up():
    assert points([1, 2, 3]) == {0: "start", 2: "end of warm-up, peak, end"}


def test_the_last_update_is_shown_where_the_run_is_shorter_than_the_schedule():
    assert points([3, 2, 1], max_step=2)[1] == "last update (max_step)"
    assert points([3, 2, 1], max_step=3) == points([3, 2, 1])


PICTURE = """\
  3 |    '''''''''
    |    |        '
    |    |         '
    |   '           '
    |   |            '
    |   |             -
1.5 |  -               -
    |  |                -
    |  |                 -
    | _                   _
    | |                    _
    | |                     _
  0 |_                       _
    +-------------------------
     0           3           6"""


def test_the_chart_is_this_picture():
    assert line_chart([0, 3, 3, 3, 2, 1, 0], 30) == PICTURE


def test_the_highest_value_is_seen_however_narrow_the_chart():
    values = np.zeros(10_000)
    values[1234] = 1.0
    assert "'" in line_chart(values, 40).splitlines()[0]


@pytest.mark.parametrize(
    ("values", "labels"),
    [([0.0], ["1", "0.5", "0"]), ([2.0], ["2", "1", "0"]), ([-1.0, 1.0], ["1", "0", "-1"])],
)
def test_labels_span_the_values_and_zero(values, labels):
    rows = line_chart(values, 40).splitlines()
    assert [label for row in rows[:13] if (label := row.split("|")[0].strip())] == labels
    assert rows[-1].split() == ["0", "1"][: len(values)]


def test_a_schedule_without_a_run_asks_for_a_length():
    with pytest.raises(ConfigError, match="rate has no length; set its total_steps"):
        curve(Part(rate=Broken.Config(peak=1.0)), "rate")
