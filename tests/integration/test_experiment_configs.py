"""What holds for the config of every experiment that is installed."""

import pytest

from axlearn_core.config import from_json, to_json, to_text
from axlearn_core.plugins import get_registry
from axlearn_core.training import Trainer

EXPERIMENTS = sorted(component.name for component in get_registry().records("experiment"))


@pytest.fixture(params=EXPERIMENTS)
def config(request):
    return get_registry().experiment(request.param)()


def test_every_component_has_a_name_so_json_restores_the_same_tree(config):
    again = from_json(to_json(config, get_registry()), Trainer.Config, get_registry())
    assert to_text(again) == to_text(config)
    assert to_json(again, get_registry()) == to_json(config, get_registry())
