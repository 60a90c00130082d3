"""Searching and fitting, with the smallest experiment there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from click.testing import CliRunner

from axlearn_core.cli.main import axl
from axlearn_core.hardware import Chip, HardwareError
from axlearn_core.plan.arithmetic import plan_by_arithmetic
from axlearn_core.plan.candidates import Candidate, Recompute, recomputes, slow_axes
from axlearn_core.plan.fit import fit, matching_targets
from axlearn_core.plan.record import Plan
from axlearn_core.plan.search import Found, pareto, search
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import get_registry
from axlearn_core.testing.tiny import experiment
from axlearn_core.training.assemble import assemble
from axlearn_core.training.trainer import Trainer

TINY = "axlearn_core.testing.tiny:experiment"


def build(overrides: Sequence[str]) -> Trainer:
    trainer: Trainer = assemble(TINY, overrides, get_registry()).config.instantiate()
    return trainer


def target(count: int, memory: int | None = None) -> Target:
    """A machine whose devices do not share anything, unlike those of a CPU."""
    chip = Chip("toy", ("toy",), {"float32": 1e12}, memory, 1e11, "", 1e10, "")
    return replace(parse_target("cpu-1", get_registry()), chip=chip, count=count)


def test_the_search_knows_every_mesh_that_divides_the_model() -> None:
    outcome = search(build, target(2), get_registry(), experiment=TINY)
    # data=2; fsdp=2 divides the rows and the table, model=2 the table, seq=2 the tokens.
    assert outcome.tried == outcome.fitting == 4
    assert [found.plan.method for found in outcome.front] == ["arithmetic"] * len(outcome.front)


def test_what_it_finds_is_the_same_each_time() -> None:
    first, second = (search(build, target(4), get_registry(), experiment=TINY) for _ in "ab")
    assert first == second


def test_the_overrides_of_every_row_assemble() -> None:
    for found in search(build, target(4), get_registry(), experiment=TINY).front:
        plan = plan_by_arithmetic(
            build(found.candidate.overrides), target(4), experiment=TINY, overrides=()
        )
        assert plan.mesh_shape == found.plan.mesh_shape
        assert plan.memory == found.plan.memory


def test_micro_batches_are_taken_only_where_memory_is_short() -> None:
    free = search(build, target(1), get_registry(), experiment=TINY).front[0]
    assert free.candidate.accumulation == 1
    less = free.plan.memory.peak - 1000
    short = search(build, target(1, less), get_registry(), experiment=TINY).front[0]
    assert short.candidate.accumulation > 1
    assert short.plan.memory.peak <= less


def test_where_nothing_fits_the_least_is_named() -> None:
    outcome = search(build, target(1, 10), get_registry(), experiment=TINY)
    assert not outcome.front
    assert outcome.least is not None and outcome.least.plan.memory.fits is False


def test_the_promising_are_compiled_and_those_that_do_not_fit_left_out() -> None:
    compiled: list[tuple[str, ...]] = []

    def refuse(trainer: Trainer, target: Target, overrides: tuple[str, ...], /) -> Plan:
        compiled.append(overrides)
        plan = plan_by_arithmetic(trainer, target, experiment=TINY, overrides=overrides)
        return replace(plan, memory=replace(plan.memory, limit=0))

    front = search(build, target(4), get_registry(), experiment=TINY).front
    outcome = search(build, target(4), get_registry(), experiment=TINY, compile=refuse, count=1)
    assert compiled == [front[0].candidate.overrides]
    assert outcome.front == front[1:]


def test_only_plans_that_none_beats_in_time_and_memory_remain() -> None:
    plan = plan_by_arithmetic(build(()), target(1), experiment=TINY, overrides=())
    one = Found(Candidate({}, {}, 1, Recompute("", ())), plan)
    more = replace(one, plan=replace(plan, memory=replace(plan.memory, temporary=2**40)))
    slower = replace(one, plan=replace(plan, step_seconds=None, flops=1e30))
    assert pareto([more, slower, one]) == [one]


def test_without_anything_to_recompute_there_is_one_policy() -> None:
    assert recomputes(experiment(), {}, get_registry()) == [Recompute("as it is", ())]


def test_outer_axes_lie_on_the_slow_network() -> None:
    mesh = {"data": 4, "fsdp": 16, "model": 2}
    assert slow_axes(mesh, 16) == {"data": 4, "fsdp": 4}
    words = Candidate(mesh, slow_axes(mesh, 16), 2, Recompute("", ())).overrides
    assert words == (
        'mesh_shape={"fsdp": 4, "model": 2}',
        'slow_mesh_shape={"data": 4, "fsdp": 4}',
        "accumulation=2",
    )


def test_the_smallest_that_fits_is_found_and_what_cannot_be_used_is_told() -> None:
    def planned(on: Target) -> Plan:
        return plan_by_arithmetic(build(()), on, experiment=TINY, overrides=())

    need = planned(target(4)).memory.peak
    found = fit([target(count, need) for count in (1, 2, 3, 4, 8)], planned)
    assert found.smallest is not None and found.smallest.target == "cpu-toy-4"
    assert [one.plan is None for one in found.tried] == [False, False, True, False]
    assert "must be a multiple of 3" in (found.tried[2].problem or "")


def test_sizes_without_topologies_are_powers_of_two() -> None:
    counts = [one.count for one in matching_targets("cpu-*", get_registry())]
    assert counts[:4] == [1, 2, 4, 8] and counts[-1] == 32_768


def test_a_pattern_must_leave_the_number_open() -> None:
    with pytest.raises(HardwareError, match="such as 'gpu-h100-\\*'"):
        matching_targets("cpu-8", get_registry())


def run(*words: str) -> str:
    result = CliRunner().invoke(axl, ["plan", TINY, *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_axl_plan_search_prints_what_to_paste() -> None:
    text = run("--search", "--hardware", "cpu-2", "--compile", "0")
    assert "4 plans of axlearn_core.testing.tiny:experiment on cpu-2" in text
    assert "'mesh_shape={" in text and "accumulation=1" in text


def test_axl_plan_search_compiles_for_a_target_that_is_here() -> None:
    plans = json.loads(run("--search", "--hardware", "cpu-2", "--compile", "1", "--json"))
    assert plans[0]["method"] == "compiled"


def test_axl_plan_fit_prints_the_smallest() -> None:
    assert "the smallest that fits: cpu-host-1" in run("--fit", "cpu-*", "--compile", "0")
