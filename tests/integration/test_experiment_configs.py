"""What holds for the config of every experiment that is installed."""

import re

import pytest

from axlearn_core.config import from_json, to_json, to_text
from axlearn_core.module import flatten_paths
from axlearn_core.plugins import get_registry
from axlearn_core.training import Trainer
from axlearn_learners import mup_simple

EXPERIMENTS = sorted(component.name for component in get_registry().records("experiment"))


@pytest.fixture(params=EXPERIMENTS)
def config(request):
    return get_registry().experiment(request.param)()


def test_every_component_has_a_name_so_json_restores_the_same_tree(config):
    again = from_json(to_json(config, get_registry()), Trainer.Config, get_registry())
    assert to_text(again) == to_text(config)
    assert to_json(again, get_registry()) == to_json(config, get_registry())


def test_mup_simple_scales_the_projections_of_a_real_model_which_start_by_fan_in():
    cfg = get_registry().experiment("text.quickstart")()
    (group,) = mup_simple(3072).values()
    specs = flatten_paths(cfg.model.instantiate(name="model").parameter_specs())
    scaled = {path: spec for path, spec in specs.items() if re.fullmatch(group.path, path)}
    assert sorted(path.split("/")[-2] for path in scaled) == [
        "down",
        "gate_up",
        "output",
        "projection",
    ]
    assert {type(spec.initializer).__name__ for spec in scaled.values()} == {"FanIn"}
