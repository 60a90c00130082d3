"""A model that is split over devices has the texts of one that is not."""

from dataclasses import replace as with_fields

import jax
import numpy as np
import pytest

from axlearn_core.config import replace
from axlearn_core.module.parameters import flatten_paths, map_specs
from axlearn_core.parallel import Placement, make_mesh
from axlearn_core.parallel.sharding import DEFAULT_RULES
from axlearn_inference.caches import Int8Cache, SlidingCache
from axlearn_inference.engine import Adapters, Engine
from axlearn_inference.engine.paging import bytes_per_page, empty_cache, paged
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import Request, Sampling
from axlearn_layers import KVCache, LoRA, Projection
from axlearn_layers.families import llama, mamba2

VOCAB = 64
SIZES = {"vocab_size": VOCAB, "dim": 16, "num_layers": 2}
ASKED = [
    Request((3, 1, 4), 5, Sampling(temperature=0), adapter="low"),
    Request((1, 5, 9, 2, 6), 5, Sampling(temperature=1, seed=3)),
]
MESHES = {"one": {}, "heads": {"model": 2}, "heads and weights": {"model": 2, "fsdp": 2}}
FIRST_DEVICE = {"one": 0, "heads": 1, "heads and weights": 4}


def llama_config():
    return llama(**SIZES, num_heads=4, num_kv_heads=2, hidden_dim=32)


def placement_on(name):
    shape = MESHES[name]
    if not shape:
        return None
    first, count = FIRST_DEVICE[name], int(np.prod(list(shape.values())))
    return Placement(make_mesh(shape, jax.devices()[first : first + count]), DEFAULT_RULES)


def without_parameters(cfg, name):
    """Returns a model of which there are but caches."""
    module = cfg.instantiate()
    return LanguageModel(name, module, {}, None, "float32", VOCAB, placement_on(name))


@pytest.fixture(scope="module")
def parameters():
    return jax.jit(llama_config().instantiate().initialize)(jax.random.key(0))


def on_mesh(parameters, name):
    """Returns a model that is split over devices."""
    model = without_parameters(llama_config(), name)
    if model.placement is not None:
        specs = model.module.parameter_specs()
        places = map_specs(lambda spec: model.placement.sharding(*spec.axes), specs)
        parameters = jax.device_put(parameters, places)
    return with_fields(model, variables=parameters)


def low_rank():
    """Returns a model with adapters, and their arrays."""
    cfg = llama_config()
    replace(cfg.stack, Projection, lambda old: LoRA.Config(inner=old, rank=2, alpha=6.0))
    module, rng = cfg.instantiate(), np.random.default_rng(0)
    specs = flatten_paths(module.parameter_specs())
    own = {path: spec for path, spec in specs.items() if path.endswith(("/a", "/b"))}
    arrays = {path: rng.normal(scale=0.3, size=spec.shape) for path, spec in own.items()}
    return module, {path.replace("/", "."): array for path, array in arrays.items()}


@pytest.fixture(scope="module")
def engines(parameters):
    """Engines by their mesh, each with an adapter."""
    made = {}
    for name in MESHES:
        model = on_mesh(parameters, name)
        adapters = Adapters(model, places=2, rank=2)
        adapters.load("low", *low_rank())
        cfg = Engine.default_config().set(slots=2, max_length=16, page_size=4)
        made[name] = cfg.instantiate(model=model, adapters=adapters)
    return made


@pytest.fixture(scope="module")
def expected(engines, finish_all):
    handles = [engines["one"].submit(request) for request in ASKED]
    texts = finish_all(engines["one"])
    return [texts[handle] for handle in handles]


def test_texts_on_a_mesh_are_those_on_one_device(engines, expected, finish_all):
    engine = engines["heads and weights"]
    places = jax.tree.map(lambda leaf: leaf.sharding, engine._cache)
    for _ in range(2):  # compiled, and then found
        handles = [engine.submit(request) for request in ASKED]
        texts = finish_all(engine)
        assert [texts[handle] for handle in handles] == expected
    assert jax.tree.map(lambda leaf: leaf.sharding, engine._cache) == places
    key = engine._cache["stack"]["layer1"]["key"].array
    assert key.shape == (8, 2, 4, 4)  # [pages, heads, slots, dim]
    assert key.sharding.shard_shape(key.shape) == (8, 1, 4, 4)


def test_requests_move_to_an_engine_on_other_devices(engines, expected, finish_all):
    prefill, decode = engines["heads"], engines["heads and weights"]
    handles = [prefill.submit(request) for request in ASKED]
    firsts = {handle: token.id for handle, token in prefill.step()}
    moved = [prefill.export(handle) for handle in handles]
    key = moved[0].contents["stack"]["layer1"]["key"].array
    assert key.sharding.shard_shape(key.shape)[1] == 1
    adopted = [decode.adopt(each) for each in moved]
    texts = finish_all(decode)
    pairs = zip(handles, adopted, strict=True)
    assert [[firsts[here], *texts[there]] for here, there in pairs] == expected


def test_places_of_adapters_are_split_as_the_projections_are(engines):
    split = []

    def find(path, leaf):
        if path[-1].key == "b":
            split.append(leaf.sharding.shard_shape(leaf.shape) != leaf.shape)

    jax.tree.map_with_path(find, engines["heads"].adapters.variables["stack"])
    assert any(split)


def in_eight_bits():
    cfg = llama_config()
    replace(cfg, KVCache, lambda old: Int8Cache.default_config().set(inner=old))
    return cfg


def in_rings():
    cfg = llama_config()
    replace(cfg, KVCache, SlidingCache.default_config())
    return cfg


@pytest.mark.parametrize(
    ("cfg", "leaf", "shape"),
    [
        (in_eight_bits(), ("scales", "value"), (2, 6, 1, 4, 1)),
        (in_rings(), ("key",), (2, 3, 1, 16, 4)),  # [layers, slots, heads, positions, dim]
        (mamba2(**SIZES, head_dim=8, state_dim=8), ("state",), (2, 3, 2, 8, 8)),
    ],
    ids=["scales", "ring", "state"],
)
def test_every_cache_is_split_by_heads(cfg, leaf, shape):
    model = without_parameters(cfg, "heads and weights")
    node = empty_cache(paged(model, 4, 6)[0], model, 3, 16)["stack"]
    for name in leaf:
        node = node[name]
    array = getattr(node, "array", node)
    assert array.sharding.shard_shape(array.shape) == shape


def test_a_page_is_counted_as_a_device_holds_it():
    whole = 2 * 2 * 2 * 4 * 4 * 4  # layers, key and value, heads, slots, dim, bytes
    assert bytes_per_page(without_parameters(llama_config(), "one"), 4) == whole
    assert bytes_per_page(without_parameters(llama_config(), "heads"), 4) == whole // 2
