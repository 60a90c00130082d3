"""muP finds its parameters in an experiment."""

import re

from axlearn_core.module import flatten_paths
from axlearn_core.plugins import get_registry
from axlearn_learners import mup_simple


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
