"""Compiled programs, and the lines that stand above a run."""

import jax
import numpy as np
import pytest

from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh
from axlearn_core.testing import tiny
from axlearn_core.training.summary import summary_lines


@pytest.fixture
def trainer(axlearn_tiny):
    return axlearn_tiny.instantiate()


@pytest.fixture
def program(trainer):
    return trainer.program(Placement(make_mesh({"fsdp": 2, "data": 2}), DEFAULT_RULES))


def test_the_initial_state_is_made_where_it_belongs(program):
    placed = jax.tree.map(lambda x: x.sharding, program.initial_state())
    assert placed == jax.tree.map(lambda x: x.sharding, program.state)
    assert "fsdp" in program.state.params["table"].sharding.spec


def test_the_initial_state_has_the_same_bits_on_any_mesh(trainer, program):
    alone = trainer.program(Placement(make_mesh({"data": 1}), DEFAULT_RULES))
    for one, other in zip(
        *(jax.tree.leaves(p.initial_state()) for p in (alone, program)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_compiled_step_tells_its_times_and_memory(trainer, program):
    compiled = program.compile_train_step(trainer.input.batch_shape()).result()
    assert compiled.trace_seconds > 0
    assert compiled.memory.total >= program.state.params["table"].size * 4 / 2


def test_metrics_are_whole_on_every_device(trainer, program):
    shape = trainer.input.batch_shape()
    step = program.compile_train_step(shape).result().run
    batch = {
        name: jax.device_put(np.ones(struct.shape, struct.dtype), struct.sharding)
        for name, struct in program.batch_structs(shape).items()
    }
    state, metrics = step(program.initial_state(), batch)
    assert all(value.is_fully_replicated for value in metrics.values())
    assert state.params["table"].sharding == program.state.params["table"].sharding


def test_the_summary_says_what_runs_where_and_how_large_it_is(trainer, program, tmp_path):
    lines = summary_lines(
        program, trainer.input.batch_shape(), 20, "acme.tiny", ["seed: 0 -> 1 (here)"], tmp_path
    )
    text = "\n".join(lines)
    for part in (
        "acme.tiny",
        "seed: 0 -> 1 (here)",
        "4 x cpu, mesh {'data': 2, 'fsdp': 2}",
        "parameters  676",
        "8 x 8 tokens per step, 20 steps",
        str(tmp_path),
    ):
        assert part in text


def test_the_summary_lists_a_dozen_changes_and_counts_the_others(trainer, program, tmp_path):
    lines = summary_lines(
        program, trainer.input.batch_shape(), 20, "x", [f"change {i}" for i in range(15)], tmp_path
    )
    assert sum("change " in line for line in lines) == 12
    assert any("and 3 more" in line for line in lines)


def test_the_summary_warns_of_parameters_that_lie_whole(trainer, program, tmp_path):
    program.warnings = ["mix lies whole on every device"]
    lines = summary_lines(program, trainer.input.batch_shape(), 20, "x", [], tmp_path)
    assert "warning     mix lies whole on every device" in lines


def test_a_counting_input_gives_each_process_its_rows():
    source = tiny.Counting.default_config().set(batch_size=8).instantiate()
    whole = next(source.batches())["input_ids"]
    parts = [next(source.batches(process_index=i, process_count=2))["input_ids"] for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
