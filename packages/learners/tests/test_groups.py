"""Groups of parameters: each is trained as it says, and a rule that does nothing is an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError, apply_overrides, from_json, to_json
from axlearn_core.module import ParameterSpec, ones
from axlearn_core.plugins import get_registry
from axlearn_learners import (
    SGD,
    AdamW,
    Lion,
    OptaxLearner,
    ParameterGroup,
    ScheduleFreeAdamW,
    WarmupCosine,
)

WEIGHT = ParameterSpec((3, 4), ("embed", "mlp"), ones)
SPECS = {
    "stack": {"weight": WEIGHT.stacked(2, "layers")},
    "norm": {"scale": ParameterSpec((4,), ("embed",), ones, weight_decay_scale=0.0)},
    "head": {"weight": ParameterSpec((4, 5), ("embed", "vocab"), ones)},
}


def tree(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), jnp.float32), SPECS)


def config(optimizer=None, **groups):
    return OptaxLearner.Config(
        optimizer=optimizer or SGD.Config(learning_rate=0.1, momentum=0.0),
        groups=groups,
        clip_norm=None,
    )


def group(**fields):
    """A group of the head, unless the fields name another."""
    if not {"path", "axis"} & fields.keys():
        fields["path"] = "head/.*"
    return ParameterGroup(**fields)


def update(cfg, steps=1):
    learner = cfg.instantiate(specs=SPECS)
    params = tree(0)
    state, step_once = learner.init(params), jax.jit(learner.update)
    for step in range(steps):
        params, state, metrics = step_once(tree(step + 1), state, params, step)
    return params, state, metrics


def change(cfg, path="head"):
    (name,) = SPECS[path]
    return np.asarray(update(cfg)[0][path][name] - tree(0)[path][name], np.float64)


def norm(*arrays):
    return np.sqrt(sum((np.asarray(x, np.float64) ** 2).sum() for x in arrays))


# What a group does.


@pytest.mark.parametrize("rule", [{"path": "head/.*"}, {"axis": "vocab"}])
def test_a_frozen_group_stays_as_it_was_to_the_bit(rule):
    params, _, _ = update(config(AdamW.Config(learning_rate=0.1), ice=group(frozen=True, **rule)))
    np.testing.assert_array_equal(params["head"]["weight"], tree(0)["head"]["weight"])
    assert (params["stack"]["weight"] != tree(0)["stack"]["weight"]).all()


def test_a_frozen_parameter_has_no_optimizer_state():
    cfg = config(AdamW.Config(learning_rate=0.1), ice=group(frozen=True))
    learner = cfg.instantiate(specs=SPECS)
    state = learner.init(tree(0))
    assert sorted(state[0].mu) == sorted(learner.state_axes()[0].mu) == ["norm", "stack"]


def test_a_frozen_parameter_has_no_share_in_the_norm_that_clips():
    cfg = config(ice=group(frozen=True))
    _, _, metrics = update(cfg)
    grads = tree(1)
    expected = norm(grads["stack"]["weight"], grads["norm"]["scale"])
    np.testing.assert_allclose(metrics["gradient_norm"], expected, rtol=1e-6)


def test_rate_scale_multiplies_the_update():
    np.testing.assert_allclose(
        change(config(slow=group(rate_scale=0.25))), 0.25 * change(config()), rtol=1e-4, atol=1e-6
    )


def test_rate_scale_leaves_other_parameters_alone():
    cfg = config(slow=group(rate_scale=0.25))
    np.testing.assert_array_equal(change(cfg, "stack"), change(config(), "stack"))


def test_decay_scale_multiplies_the_decay():
    def decayed(scale, **groups):
        optimizer = SGD.Config(learning_rate=0.1, momentum=0.0, weight_decay=scale)
        return change(config(optimizer, **groups))

    np.testing.assert_allclose(decayed(0.5, half=group(decay_scale=0.5)), decayed(0.25), atol=1e-6)
    np.testing.assert_array_equal(decayed(0.5, none=group(decay_scale=0.0)), decayed(0.0))


def test_a_group_can_have_an_optimizer_of_its_own():
    lion = Lion.Config(learning_rate=0.01, weight_decay=0.0)
    cfg = config(AdamW.Config(learning_rate=0.1), signs=group(optimizer=lion))
    np.testing.assert_allclose(np.abs(change(cfg)), 0.01, rtol=1e-4)
    expected = change(config(AdamW.Config(learning_rate=0.1)), "stack")
    np.testing.assert_array_equal(change(cfg, "stack"), expected)


def test_state_and_axes_of_own_optimizers_are_apart():
    cfg = config(
        AdamW.Config(learning_rate=0.1), signs=group(optimizer=Lion.Config(learning_rate=0.01))
    )
    learner = cfg.instantiate(specs=SPECS)
    state, axes = learner.init(tree(0)), learner.state_axes()
    assert sorted(state) == sorted(axes) == ["rest", "signs"]
    assert axes["signs"][0].mu == {"head": {"weight": ("embed", "vocab")}}
    assert sorted(state["rest"][0].mu) == ["norm", "stack"]


def test_groups_without_own_optimizers_keep_the_states_structure():
    plain, scaled = config(), config(slow=group(rate_scale=0.5))
    states = [jax.tree.structure(update(cfg)[1]) for cfg in (plain, scaled)]
    assert states[0] == states[1]


def test_the_first_group_that_matches_has_the_parameter():
    cfg = config(first=group(rate_scale=0.5), second=group(path=".*", rate_scale=0.1))
    np.testing.assert_allclose(change(cfg), 0.5 * change(config()), rtol=1e-4, atol=1e-6)


def test_path_and_axis_together_ask_for_both():
    cfg = config(both=group(path=".*/weight", axis="layers", frozen=True))
    params, _, _ = update(cfg)
    np.testing.assert_array_equal(params["stack"]["weight"], tree(0)["stack"]["weight"])
    assert (params["head"]["weight"] != tree(0)["head"]["weight"]).all()


def test_schedules_of_groups_take_the_length_of_the_learner():
    own = SGD.Config(learning_rate=WarmupCosine.Config(peak=1.0, warmup=0.1), momentum=0.0)
    _, _, metrics = update(config(own=group(optimizer=own)).set(total_steps=90))
    np.testing.assert_allclose(metrics["learning_rate/own"], 0.1, rtol=1e-6)


def test_evaluation_takes_the_mean_of_the_group_that_has_one():
    own = ScheduleFreeAdamW.Config(learning_rate=0.1)
    cfg = config(own=group(optimizer=own))
    learner = cfg.instantiate(specs=SPECS)
    params, state, _ = update(cfg, steps=3)
    evaluated = learner.evaluation_params(params, state)
    assert (evaluated["head"]["weight"] != params["head"]["weight"]).any()
    np.testing.assert_array_equal(evaluated["stack"]["weight"], params["stack"]["weight"])


# What a group reports.


def test_norms_and_rates_are_reported_by_group():
    cfg = config(slow=group(rate_scale=0.25), ice=group(path="norm/.*", frozen=True))
    _, _, metrics = update(cfg)
    grads = tree(1)
    assert sorted(metrics) == [
        "gradient_norm",
        "gradient_norm/rest",
        "gradient_norm/slow",
        "learning_rate",
        "learning_rate/slow",
        "update_norm",
        "update_norm/rest",
        "update_norm/slow",
    ]
    np.testing.assert_allclose(metrics["gradient_norm/slow"], norm(grads["head"]["weight"]), 1e-6)
    np.testing.assert_allclose(metrics["gradient_norm/rest"], norm(grads["stack"]["weight"]), 1e-6)
    np.testing.assert_allclose(metrics["update_norm/slow"], norm(change(cfg)), rtol=1e-5)
    np.testing.assert_allclose(metrics["learning_rate/slow"], 0.025, rtol=1e-6)


def test_without_groups_nothing_more_is_reported():
    assert sorted(update(config())[2]) == ["gradient_norm", "learning_rate", "update_norm"]


# What is refused.


def refused(match, **groups):
    with pytest.raises(ConfigError, match=match):
        config(**groups).instantiate(specs=SPECS)


def test_a_path_that_matches_nothing_lists_the_paths():
    refused(
        r"groups\['biases'\] \(path='.\*/bias'\) matches no parameter.*head/weight",
        biases=group(path=".*/bias", frozen=True),
    )


def test_an_axis_that_matches_nothing_lists_the_axes():
    refused(r"axis='heads'.*the axes are: embed, layers", h=group(axis="heads", frozen=True))


def test_a_group_behind_one_that_has_all_of_it_is_refused():
    refused("write it before them", a=group(rate_scale=0.5), b=group(axis="vocab", frozen=True))


def test_a_group_without_a_rule_is_refused():
    refused("names no parameters; write its path or its axis", a=ParameterGroup(frozen=True))


def test_a_frozen_group_with_a_rate_is_refused():
    refused("write frozen=False", a=group(frozen=True, rate_scale=0.5))


def test_a_negative_rate_scale_is_refused():
    refused("must not be negative", a=group(rate_scale=-1.0))


def test_a_group_named_rest_is_refused():
    refused("choose another name", rest=group(frozen=True))


def test_freezing_everything_is_refused():
    refused("leave no parameter to train", all=group(path=".*", frozen=True))


def test_an_optimizer_that_refuses_its_parameters_is_named():
    adamw = AdamW.Config(learning_rate=0.1, no_decay=".*/bias")
    with pytest.raises(ConfigError, match=r"failed: optimizer: no_decay \(='.\*/bias'\) matches"):
        config(adamw).instantiate(specs=SPECS)
    refused(r"groups\['own'\]\.optimizer: no_decay", own=group(optimizer=adamw))


def test_scaling_a_mean_of_weights_is_refused_with_a_way_out():
    own = ScheduleFreeAdamW.Config(learning_rate=0.1)
    refused("an optimizer of its own", a=group(optimizer=own, rate_scale=0.5))


# Configs.


def test_groups_survive_json():
    cfg = config(slow=group(rate_scale=0.5), own=group(optimizer=Lion.Config(learning_rate=0.1)))
    registry = get_registry()
    assert from_json(to_json(cfg, registry), OptaxLearner.Config, registry) == cfg


def test_an_override_reaches_into_a_group():
    cfg = config(slow=group(rate_scale=0.5))
    changed = apply_overrides(cfg, ["groups.slow.rate_scale=0.1"], resolve=get_registry().lookup)
    assert changed.groups["slow"].rate_scale == 0.1
