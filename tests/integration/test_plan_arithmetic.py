"""Plans by arithmetic of whole models, against the programs that the compiler makes of them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import jax
import pytest

from axlearn_core.module import functional
from axlearn_core.plan.arithmetic import plan_by_arithmetic
from axlearn_core.plan.blueprint import draw
from axlearn_core.plan.candidates import recomputes
from axlearn_core.plan.compiling import plan_by_compiling
from axlearn_core.plan.record import Plan
from axlearn_core.plan.search import search
from axlearn_core.plan.target import parse_target
from axlearn_core.plugins import get_registry
from axlearn_core.training import Trainer
from axlearn_core.training.assemble import assemble
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import Remat
from axlearn_layers.families import llama, mixtral

KEY = jax.random.key(0)
FSDP = (("fsdp", 8),)
FSDP_AND_MODEL = (("fsdp", 4), ("model", 2))


def small_llama() -> Trainer.Config:
    model = llama(vocab_size=512, dim=64, num_layers=3, num_heads=4, num_kv_heads=4, hidden_dim=176)
    data = SyntheticInput.default_config().set(vocab_size=512, seq_len=64, batch_size=16)
    return trainer(model, data, peak_rate=1e-3, max_step=3)


@cache
def plans(mesh: tuple[tuple[str, int], ...]) -> tuple[Plan, Plan]:
    """By arithmetic, and by compiling."""
    cfg = small_llama().set(mesh_shape=dict(mesh), compile_cache=None)
    target = parse_target("cpu-8", get_registry()).with_devices()
    words: Any = {"experiment": "small", "overrides": ()}
    built = cfg.instantiate()
    return plan_by_arithmetic(built, target, **words), plan_by_compiling(built, target, **words)


def sent(plan: Plan) -> Counter[tuple[str, ...]]:
    """Bytes by axes. On CPUs a reduce-scatter is written as an all-reduce, of twice the bytes."""
    total: Counter[tuple[str, ...]] = Counter()
    for each in plan.traffic:
        axes = tuple(sorted(each.axes))
        total[axes] += each.bytes // 2 if each.kind == "all-reduce" else each.bytes
    return total


@pytest.mark.parametrize("mesh", [FSDP, FSDP_AND_MODEL], ids=str)
def test_operations_are_those_of_the_compiled_program(mesh: tuple[tuple[str, int], ...]) -> None:
    arithmetic, compiled = plans(mesh)
    assert arithmetic.flops == pytest.approx(compiled.flops, rel=1e-3)


@pytest.mark.parametrize("mesh", [FSDP, FSDP_AND_MODEL], ids=str)
def test_the_state_is_that_of_the_compiled_program(mesh: tuple[tuple[str, int], ...]) -> None:
    arithmetic, compiled = plans(mesh)
    assert arithmetic.memory.parameters == compiled.memory.parameters
    assert arithmetic.memory.optimizer == compiled.memory.optimizer
    assert arithmetic.memory.other_state == compiled.memory.other_state


@pytest.mark.parametrize("mesh", [FSDP, FSDP_AND_MODEL], ids=str)
def test_what_is_sent_is_what_the_compiled_program_sends(
    mesh: tuple[tuple[str, int], ...],
) -> None:
    arithmetic, compiled = plans(mesh)
    expected = sent(compiled)
    for axes, size in sent(arithmetic).items():
        assert size == pytest.approx(expected[axes], rel=0.1), axes


def residuals(built: Trainer) -> int:
    """Bytes of what `jax.vjp` keeps for the backward pass, parameters left out."""
    model = built.model
    params = jax.eval_shape(model.initialize, KEY)
    batch = {k: jax.ShapeDtypeStruct(*spec) for k, spec in built.input.batch_shape().items()}

    def backward(params: Any, batch: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            return functional(model, state=params, prng_key=KEY, inputs=(batch,))[0].total

        return jax.vjp(loss, params)[1]

    shapes = {leaf.shape for leaf in jax.tree.leaves(params)}
    kept = jax.tree.leaves(jax.eval_shape(backward, params, batch))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in kept if leaf.shape not in shapes)


@pytest.mark.parametrize("save", [None, "block_hidden"])
def test_activations_are_what_jax_keeps_for_the_backward_pass(save: str | None) -> None:
    cfg = small_llama().set(compile_cache=None)
    if save:
        cfg.model.stack.remat = Remat.default_config().set(save=save)
    built: Trainer = cfg.instantiate()
    counted = sum(array.bytes for array in draw(built).census.kept)
    # jax also keeps token ids and the angles of rotary embeddings, which are made again.
    assert counted == pytest.approx(residuals(built), rel=0.02)


def test_activations_of_a_compiled_plan_are_those_of_its_trace() -> None:
    arithmetic, compiled = plans(FSDP)
    assert compiled.memory.activations == arithmetic.memory.activations
    assert compiled.memory.temporary > 0


def test_every_policy_of_recomputation_assembles() -> None:
    registry = get_registry()
    built = assemble("published.llama2-7b", (), registry).config.instantiate()
    policies = recomputes(built.config, draw(built).census.names, registry)
    assert [policy.name for policy in policies] == [
        "nothing",
        "all",
        "all but block_.*",
        "all but block_.*|attention_.*",
        "all but block_.*|attention_.*|feed_.*",
    ]
    saved = [
        remat and remat.save
        for policy in policies
        for remat in [
            assemble("published.llama2-7b", policy.overrides, registry).config.model.stack.remat
        ]
    ]
    assert saved == [
        None,
        None,
        "block_.*",
        "block_.*|attention_.*",
        "block_.*|attention_.*|feed_.*",
    ]


def test_what_is_kept_takes_memory_and_saves_operations() -> None:
    def planned(*overrides: str) -> Plan:
        built = assemble("published.llama2-7b", overrides, get_registry()).config.instantiate()
        target = parse_target("cpu-256", get_registry())
        return plan_by_arithmetic(built, target, experiment="", overrides=overrides)

    less, more = planned("model.stack.remat.save=null"), planned("model.stack.remat.save=.*")
    assert less.memory.activations < more.memory.activations
    assert less.flops > more.flops


def test_experts_are_searched_and_exchange_their_rows() -> None:
    def build(overrides: Any) -> Trainer:
        model = mixtral(
            vocab_size=64,
            dim=32,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            hidden_dim=64,
            num_experts=4,
        )
        data = SyntheticInput.default_config().set(vocab_size=64, seq_len=16, batch_size=8)
        cfg = trainer(model, data, peak_rate=1e-3, max_step=3).set(mesh_shape={"expert": 4})
        return cfg.instantiate()

    target = parse_target("cpu-4", get_registry())
    plan = plan_by_arithmetic(build(()), target, experiment="", overrides=())
    assert {each.kind for each in plan.traffic if each.axes == ("expert",)} >= {"all-to-all"}
    outcome = search(build, target, get_registry(), experiment="")
    assert outcome.tried > 10


def test_thirty_thousand_chips_are_planned_in_seconds() -> None:
    overrides = ('mesh_shape={"data": 32, "fsdp": 1024}', "input.batch_size=32768")
    built = assemble("published.llama2-70b", overrides, get_registry()).config.instantiate()
    target = parse_target("cpu-32768", get_registry())
    plan = plan_by_arithmetic(built, target, experiment="", overrides=overrides)
    assert plan.parameter_count == 68_976_648_192
    assert plan.memory.parameters == pytest.approx(4 * plan.parameter_count / 1024, rel=0.01)
