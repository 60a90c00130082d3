"""Published models have their published sizes, without anything being allocated."""

import jax
import pytest

from axlearn_core.module import parameter_count
from axlearn_core.training import Trainer
from axlearn_experiments import published
from axlearn_layers import flops_per_token

SIZES = {
    "llama2_7b": 6_738_415_616,
    "llama2_70b": 68_976_648_192,
    "llama3_8b": 8_030_261_248,
    "qwen3_30b_a3b": 30_532_122_624,
    "deepseek_v3_671b": 671_026_419_200,  # of which 14,848 are the routers' biases
    "afm_on_device": 2_586_744_320 + 150_994_944,  # without and with the table
    "afm_on_device_2025": 3_111_368_064,
    "afm_draft_2025": 48_765_952,
}


@pytest.fixture(scope="module", params=SIZES)
def experiment(request):
    return request.param, getattr(published, request.param)()


def test_size_is_the_published_one(experiment):
    name, cfg = experiment
    model = cfg.model.instantiate(name="model")
    made = jax.eval_shape(model.initialize, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == SIZES[name]
    assert parameter_count(model.parameter_specs()) == SIZES[name]


def test_recipe_builds_with_every_length_of_its_schedule(experiment):
    _, cfg = experiment
    assert isinstance(cfg, Trainer.Config)
    cfg.instantiate()


@pytest.mark.parametrize(("name", "billions"), [("qwen3_30b_a3b", 3.3), ("deepseek_v3_671b", 37.0)])
def test_a_token_is_served_by_as_many_parameters_as_the_paper_says(name, billions):
    """A token needs two operations per parameter that serves it, scores left out."""
    cfg = getattr(published, name)()
    model = cfg.model.instantiate(name="model")
    head = cfg.model.vocab_size * cfg.model.dim
    active = flops_per_token(model.stack, seq_length=0) / 2 + 2 * head
    assert active / 1e9 == pytest.approx(billions, rel=0.03)
