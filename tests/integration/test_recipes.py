"""What the hardware packages' recipes make of the registered experiments, without any hardware."""

from __future__ import annotations

import re
from typing import Any

import pytest

from axlearn_core.config import ConfigError, find
from axlearn_core.hardware import FitRemat, HardwareError, backend_of, select_recipes
from axlearn_core.hardware.fit_remat import _blueprint, _division
from axlearn_core.plan.arithmetic import memory_of
from axlearn_core.plan.demand import demand
from axlearn_core.plugins import MeshRuleRecord, get_registry
from axlearn_core.training import EightBits, Precision
from axlearn_core.training.assemble import assemble
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import GatedExperts, Linear, QuantizedGatedExperts, QuantizedLinear
from axlearn_layers.families import llama

EXPERIMENTS = [component.name for component in get_registry().records("experiment")]
EIGHT_BITS = {"float8": "float8_e4m3fn", "int8": "int8"}


def rules() -> list[tuple[str, MeshRuleRecord]]:
    own = [c for c in get_registry().records("mesh-rule") if c.distribution.startswith("axlearn-")]
    return [(c.qualified_name, c.record) for c in own if isinstance(c.record, MeshRuleRecord)]


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
@pytest.mark.parametrize(("recipe", "dtype"), EIGHT_BITS.items())
def test_eight_bits_are_offered_where_the_chip_multiplies_them_faster(
    platform: str, recipe: str, dtype: str
) -> None:
    backend = backend_of(platform, get_registry())
    assert backend is not None
    faster = {
        chip.name
        for chip in backend.chips
        if chip.peak_flops.get(dtype, 0) > 1.5 * chip.peak_flops["bfloat16"]
    }
    patterns = [
        record.pattern
        for _, record in rules()
        if record.name == recipe and record.pattern.startswith(platform)
    ]
    offered = {
        chip.name
        for chip in backend.chips
        if any(re.fullmatch(pattern, f"{platform}-{chip.name}-8") for pattern in patterns)
    }
    assert offered == faster


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_eight_bits_are_for_all_projections_but_heads_and_routers(experiment: str) -> None:
    recipe = get_registry().load("mesh-rule", "hardware-gpu/float8")
    assert isinstance(recipe, EightBits.Config)
    cfg = recipe.instantiate()(get_registry().experiment(experiment)())
    for path, node in find(cfg.model, Linear):
        kept = {"head", "router"} & set(path.split("."))
        assert isinstance(node, QuantizedLinear.Config) != bool(kept), path
    for path, node in find(cfg.model, GatedExperts):
        assert isinstance(node, QuantizedGatedExperts.Config), path


def test_a_model_without_such_layers_is_an_error() -> None:
    recipe = EightBits.Config(format="int8", swaps={"layers/lora": "layers/quantized_linear"})
    with pytest.raises(ConfigError, match="has none of layers/lora, but below head or router"):
        recipe.instantiate()(small())


@pytest.mark.parametrize("name", [name for name, record in rules() if not record.optional])
def test_rules_compute_in_bfloat16_and_keep_float32_weights(name: str) -> None:
    steps = get_registry().load("mesh-rule", name).steps
    (precision,) = [step for step in steps if isinstance(step, Precision.Config)]
    assert precision.compute_dtype == "bfloat16"
    assert not precision.parts
    assert isinstance(steps[-1], FitRemat.Config)  # after the mesh


@pytest.mark.parametrize(
    ("machine", "gradients", "sums"),
    [("gpu-h100-8", "float32", "float32"), ("tpu-v4-8", "bfloat16", "bfloat16")],
)
def test_gradients_have_a_recipe(machine: str, gradients: str, sums: str) -> None:
    (recipe,) = select_recipes(get_registry(), machine, [f"{gradients}-gradients"])
    cfg = recipe.load().instantiate()(small())
    assert (cfg.gradient_dtype, cfg.accumulation_dtype) == (gradients, sums)


def test_a_recipe_that_a_machine_does_not_have_is_an_error_with_those_it_has() -> None:
    with pytest.raises(HardwareError, match=r"tpu-v4-8 has no recipe of that name.*offload"):
        select_recipes(get_registry(), "tpu-v4-8", ["int8"])


def test_a_recipe_needs_a_machine() -> None:
    with pytest.raises(ConfigError, match="recipe=int8 is of a machine"):
        assemble("text.markov", ["recipe=int8"], get_registry())


# What is recomputed, of a model that is traced in a second.


def small() -> Any:
    model = llama(vocab_size=512, dim=64, num_layers=8, num_heads=4, num_kv_heads=4, hidden_dim=512)
    data = SyntheticInput.default_config().set(vocab_size=512, seq_len=512, batch_size=64)
    return trainer(model, data, peak_rate=1e-3, max_step=3).set(mesh_shape={"fsdp": 8})


def fitted(memory: float | None, *, offload: bool = False, fill: float = 1.0) -> Any:
    rule = FitRemat.Config(device_count=8, fill=fill, offload=offload)
    rule.memory_bytes = None if memory is None else int(memory)
    return rule.instantiate()(small())


def saved(cfg: Any) -> str | None:
    remat = cfg.model.stack.remat
    return "everything" if remat is None else remat.save


def peak(cfg: Any) -> int:
    blueprint, division = _blueprint(cfg), _division(cfg, 8)
    return memory_of(blueprint, division, demand(blueprint.census.body, division)).peak


def test_less_memory_keeps_less_and_what_is_kept_fits() -> None:
    everything = fitted(2**40)
    assert saved(everything) == "everything"
    before, seen = peak(everything), ["everything"]
    while (cfg := fitted(before - 1)) and saved(cfg) != seen[-1]:
        seen.append(saved(cfg))
        if peak(cfg) >= before:  # the least there is
            break
        before = peak(cfg)
    kinds = ["everything", "block_.*|attention_.*|feed_.*", "block_.*|attention_.*", "block_.*"]
    assert seen == [*kinds, None]


def test_what_does_not_fit_can_wait_on_the_host() -> None:
    cfg = fitted(peak(fitted(2**40)) - 1, offload=True)
    assert saved(cfg) == "block_.*|attention_.*|feed_.*"
    assert cfg.model.stack.remat.offload == ".*"
    assert saved(fitted(2**40, offload=True)) == "everything"


def test_unknown_memory_and_a_trainer_that_cannot_be_built_change_nothing() -> None:
    assert fitted(None) == small()
    unprepared = get_registry().experiment("text.quickstart")()
    rule = FitRemat.Config(device_count=1, memory_bytes=2**30).instantiate()
    unprepared.input.directory = "nowhere"
    assert rule(unprepared.clone()) == unprepared
