"""Plans of a small experiment: what they hold, and how they are shown, kept and compared."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from axlearn_core import _plugin
from axlearn_core.cli.main import main
from axlearn_core.cli.plan_comparison import comparison
from axlearn_core.cli.plan_page import page
from axlearn_core.cli.plan_report import report
from axlearn_core.errors import UserError
from axlearn_core.plan import Memory, Plan, Range
from axlearn_core.plan.compiling import _refused, plan_by_compiling
from axlearn_core.plan.roofline import speed
from axlearn_core.plan.saved import from_json, to_json
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import get_registry
from axlearn_core.testing import tiny
from axlearn_core.testing.registries import isolated_registry
from axlearn_core.training.trainer import Trainer

TABLE = 4 * 26 * 26  # bytes of the model's only parameter, in float32


def target() -> Target:
    return parse_target("cpu-8", get_registry()).with_devices()


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    built: Trainer = tiny.experiment().instantiate()
    return built


@pytest.fixture(scope="module")
def plan(trainer: Trainer) -> Plan:
    return plan_by_compiling(trainer, target(), experiment="tiny", overrides=("a=1",))


def test_the_state_is_that_of_one_device(plan: Plan) -> None:
    assert plan.method == "compiled"
    assert plan.mesh_shape == {"data": 8}
    assert plan.parameter_count * 4 == plan.memory.parameters == TABLE
    assert plan.memory.optimizer == 0
    assert plan.memory.temporary > 0


def test_a_gradient_is_summed_over_the_devices_that_share_the_batch(plan: Plan) -> None:
    summed = [each for each in plan.traffic if each.axes == ("data",)]
    assert {each.kind for each in summed} == {"all-reduce"}
    # The gradient, and a few scalars, such as the loss.
    assert sum(each.bytes for each in summed) == pytest.approx(2 * 7 / 8 * TABLE, rel=0.02)


def test_a_parameter_that_is_split_is_smaller_and_gathered(trainer: Trainer) -> None:
    cfg = tiny.experiment()
    cfg.model.vocab_size = 32
    cfg.mesh_shape = {"fsdp": -1}
    split = plan_by_compiling(cfg.instantiate(), target(), experiment="tiny", overrides=())
    assert split.memory.parameters == 4 * 32 * 32 / 8
    assert "all-gather" in {each.kind for each in split.traffic}
    assert split.largest[0].spec == "(fsdp, -)"


def test_the_same_step_is_planned_as_is_trained(trainer: Trainer, plan: Plan) -> None:
    program = trainer.program(trainer.placement(target().devices))
    memory = program.compile_train_step(trainer.input.batch_shape()).result().memory
    assert memory is not None
    assert memory.total == plan.memory.peak


def test_json_gives_the_same_plan_back(plan: Plan) -> None:
    full = replace(plan, step_seconds=Range(1.0, 2.0), mfu=Range(0.2, 0.4))
    text = json.dumps(to_json(full))
    assert from_json(text, "a test") == full
    assert json.loads(text)["peak_bytes"] == plan.memory.peak


def test_a_file_that_is_no_plan_says_how_to_make_one() -> None:
    with pytest.raises(UserError, match=r"x.json is no plan .*--save plan.json"):
        from_json("{}", "x.json")


def crowded(plan: Plan) -> Plan:
    return replace(plan, memory=Memory(2**30, 2**31, 0, 2 * 2**30, 4 * 2**30, 8 * 2**30))


def test_what_does_not_fit_says_by_how_much_and_what_to_try(plan: Plan) -> None:
    text = report(crowded(plan))
    assert "of 8 GiB: does not fit, 1 GiB too much" in text
    assert re.search(r"\[#+=+-+~+\|~+\]", text)
    assert "try: accumulation=2" in text
    assert "try: axl plan tiny --search --hardware cpu-host-8" in text


def test_what_fits_says_what_is_left(plan: Plan) -> None:
    roomy = replace(plan, memory=Memory(2**30, 2**30, 0, 2**30, 2**30, 12 * 2**30))
    assert "fits, 8 GiB (67%) to spare" in report(roomy)
    assert f"[{'#' * 5}{'=' * 5}{'-' * 5}{'~' * 5}{'.' * 40}]" in report(roomy)


def test_the_page_loads_nothing_and_knows_light_dark_and_phones(plan: Plan) -> None:
    text = page(crowded(plan))
    assert "<svg" in text and "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert not re.search(r"https?://|<script|<link|src=|url\(", text)
    assert "does not fit" in text


def test_a_name_cannot_break_the_page(plan: Plan) -> None:
    assert "<script>" not in page(replace(plan, experiment="<script>"))


def test_plans_are_compared_where_they_differ(plan: Plan) -> None:
    other = replace(plan, target="cpu-host-16", flops=2 * plan.flops + 2.0)
    rows = comparison(replace(plan, flops=plan.flops + 1.0), other).splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["target", "FLOPs"]
    assert rows[2].endswith("2.00")
    assert comparison(plan, plan) == "the two plans are the same"


@pytest.mark.parametrize(
    ("message", "peak"),
    [
        ("Ran out of memory in memory space hbm. Used 18.5G of 15.75G hbm. Exceeded", 18.5),
        ("memory required for HLO temporaries (42.00G) exceeds available HBM (15.75G).", 42.0),
    ],
)
def test_the_compilers_refusal_is_read(trainer: Trainer, message: str, peak: float) -> None:
    program = trainer.program(trainer.placement(target().devices))
    memory = _refused(message, program, target(), 64)
    assert memory.limit == int(15.75 * 2**30)
    assert memory.peak == pytest.approx(peak * 2**30, rel=1e-4)
    assert memory.fits is False


def test_collectives_can_hide_kernels_cannot() -> None:
    chip = replace(target().chip, shared=False, peak_flops={"float32": 1e12}, memory_bandwidth=1e12)
    fast = speed(
        replace(target(), chip=chip),
        flops=0.9e12,
        bytes_accessed=0.9e12,
        exposed_bytes=0.0,
        traffic=(),
        model_flops=4 * 0.9e12,
        dtype="float32",
    )
    assert fast.times.binding == "compute"
    assert fast.step_seconds is not None and fast.mfu is not None
    assert fast.step_seconds.low == pytest.approx(1.0)
    assert fast.mfu.high == pytest.approx(4 * 0.9 / 8)


def axl(*words: str) -> int:
    with isolated_registry(axlearn_core=_plugin):
        return main(list(words))


TINY = "axlearn_core.testing.tiny:experiment"


def test_the_command_prints_saves_and_compares(tmp_path, capsys) -> None:
    saved = str(tmp_path / "plan.json")
    assert axl("plan", TINY, "--hardware", "cpu-8", "--save", saved) == 0
    assert "memory of each device" in capsys.readouterr().out
    assert axl("plan", TINY, "--hardware", "cpu-4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["mesh_shape"] == {"data": 4}
    assert axl("plan", TINY, "--compare", saved, "cpu-4") == 0
    assert re.search(r"mesh +data 8 +data 4", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan", TINY), "give an EXPERIMENT and --hardware MACHINE"),
        (("plan", TINY, "--hardware", "cpu-8", "--save", "x.png"), "--save writes .html or .json"),
        (("plan", "--compare", "cpu-4", "cpu-8"), "give an EXPERIMENT to plan on cpu-4 and cpu-8"),
        (("plan", TINY, "--hardware", "cpu-3"), "batch_size .* must be a multiple of 3"),
        (("plan", TINY, "--hardware", "cup-8"), "Did you mean 'cpu'"),
        (("plan", "--compare", "a.json", "b.json"), "cannot read a.json"),
    ],
)
def test_a_wrong_command_says_what_to_write(words, message, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert axl(*words) in (1, 2)
    assert re.search(message, capsys.readouterr().err)
