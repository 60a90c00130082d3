"""Layers one by one compute what a loop over them computes."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from axlearn_core.config import find
from axlearn_core.module import flatten_paths, functional
from axlearn_inference import LanguageModel
from axlearn_inference.unrolling import unrolled
from axlearn_layers import Pipeline, Repeat
from axlearn_layers.families import afm, gemma3, llama

SIZES = {"vocab_size": 26, "dim": 8, "num_heads": 2, "num_kv_heads": 1, "hidden_dim": 8}
# A loop, a loop over a pattern with more layers behind it, and a loop within another stack.
FAMILIES = {
    "llama": lambda: llama(num_layers=3, **SIZES),
    "gemma3": lambda: gemma3(num_layers=8, head_dim=4, window=4, **SIZES),
    "afm": lambda: afm(num_layers=5, num_sharing_layers=2, head_dim=4, **SIZES),
}


def language_model(cfg):
    module = cfg.instantiate(name="model")
    return LanguageModel("tiny", module, module.initialize(jax.random.key(0)), None, "float32", 26)


def scores(model):
    ids = jax.random.randint(jax.random.key(1), (2, 6), 0, 26)

    @jax.jit
    def run(variables):
        cache = model.module.init_cache(2, 8, "float32")
        inputs = {"input_ids": ids, "cache": cache}
        return functional(
            model.module, state=variables, prng_key=None, inputs=inputs, method="extend"
        )[0][0]

    return run(model.variables)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_stay(family):
    model = language_model(FAMILIES[family]())
    expected = scores(model)
    layers = unrolled(model)
    assert find(model.module.config, Repeat)
    assert not find(layers.module.config, Repeat)
    # Sums are fused another way.
    np.testing.assert_allclose(scores(layers), expected, rtol=1e-5, atol=1e-5)


def test_parameters_are_those_that_the_module_has():
    layers = unrolled(language_model(FAMILIES["gemma3"]()))
    shapes = {path: leaf.shape for path, leaf in flatten_paths(layers.variables).items()}
    specs = flatten_paths(layers.module.parameter_specs())
    assert shapes == {path: spec.shape for path, spec in specs.items()}


def test_arrays_of_one_layer_stay_split_over_devices():
    model = language_model(FAMILIES["llama"]())
    mesh = Mesh(np.array(jax.devices()[:2]), ("model",))
    split = NamedSharding(mesh, PartitionSpec(None, "model"))
    matrices = jax.tree.map(
        lambda x: jax.device_put(x, split) if x.ndim > 2 else x, model.variables["stack"]
    )
    model.variables["stack"] = matrices
    expected = NamedSharding(mesh, PartitionSpec("model"))
    own = unrolled(model).variables["stack"]["layer1"]
    assert any(x.ndim > 1 for x in jax.tree.leaves(own))
    assert all(
        x.sharding.is_equivalent_to(expected, x.ndim) for x in jax.tree.leaves(own) if x.ndim > 1
    )


def test_stacked_arrays_are_let_go():
    model = language_model(FAMILIES["llama"]())
    unrolled(model)
    assert not model.variables


def test_a_pipeline_stays():
    cfg = llama(num_layers=2, **SIZES)
    cfg.stack = Pipeline.default_config().set(
        layer=cfg.stack.layer, num_layers=2, num_stages=2, num_microbatches=1
    )
    model = language_model(cfg)
    assert unrolled(model) is model
