"""Whole runs, seen from outside: what they write, say and tell observers."""

import json
import os
import re
import signal

import jax
import numpy as np
import pytest

from axlearn_core.checkpoint import checkpoints, newest_intact
from axlearn_core.checkpoint.checkpointer import read_facts, restore
from axlearn_core.config import ConfigError
from axlearn_core.errors import UserError
from axlearn_core.guards.numbers import NonFiniteError
from axlearn_core.observe.events import read_events
from axlearn_core.observe.goodput import account
from axlearn_core.observe.writers import Writer
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh
from axlearn_core.plugins import WriterRecord
from axlearn_core.testing import tiny
from axlearn_core.training.evaluation import Evaluation


def records(run):
    return [json.loads(line) for line in run.metrics.splitlines()]


def steps(run, key="loss"):
    return [record["step"] for record in records(run) if key in record]


@pytest.fixture
def busy(axlearn_tiny):
    """A config that records, evaluates and saves often."""
    axlearn_tiny.evaluations["held_out"].set(every=2)
    axlearn_tiny.checkpoint.set(every=2)
    return axlearn_tiny.set(max_step=10, log_every=2)


def saved_bits(config, directory):
    """The bytes of every array in the newest checkpoint."""
    trainer = config.instantiate()
    program = trainer.program(Placement(make_mesh({"data": 1}), DEFAULT_RULES))
    state = restore(newest_intact(directory).info.path, program.state)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


# Resuming.


def test_a_run_in_two_parts_equals_one_in_one_part(run, busy):
    run(busy.clone(max_step=4), "parts")
    parts, whole = run(busy, "parts"), run(busy, "whole")
    assert parts.metrics == whole.metrics
    assert saved_bits(busy, parts.directory) == saved_bits(busy, whole.directory)


@pytest.mark.parametrize("stopped_at", [1, 3, 6])
def test_where_a_run_was_stopped_leaves_no_trace_in_its_metrics(run, observer, busy, stopped_at):
    def stop(event):
        if event.step == stopped_at:
            os.kill(os.getpid(), signal.SIGTERM)

    busy.set(log_every=4)
    stopped = run(busy, "parts", test=observer(step_completed=stop))
    assert stopped.result.reason == "preempted"
    assert run(busy, "parts").metrics == run(busy, "whole").metrics


def test_a_signal_during_an_evaluation_loses_no_step(run, observer, busy):
    busy.checkpoint.set(every=None)
    stop = observer(eval_completed=lambda event: os.kill(os.getpid(), signal.SIGTERM))
    stopped = run(busy, test=stop)
    assert stopped.result.reason == "preempted"
    assert newest_intact(stopped.directory).info.step == stopped.result.step


def test_a_signal_in_the_last_step_does_not_make_a_finished_run_unfinished(run, observer, busy):
    def stop(event):
        if event.step == busy.max_step:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(busy, test=observer(eval_completed=stop)).result.reason == "completed"


def test_a_finished_run_says_so_and_compiles_nothing(run, busy):
    first = run(busy)
    again = run(busy)
    assert "step 10 is done already" in again.out
    assert "axl generate" in again.out
    assert "compiled" not in again.out
    assert again.result == first.result
    assert again.metrics == first.metrics


def test_starting_from_scratch_is_said(run, busy):
    assert "starting from scratch\n" in run(busy).out


def test_starting_from_scratch_in_a_used_directory_says_why(run, busy, monkeypatch):
    busy.input = Broken.default_config().set(batch_size=8)
    monkeypatch.setattr(Broken, "fails_at", 0)
    run(busy, fails=OSError)
    again = run(busy, fails=OSError)
    assert re.search(r"starting from scratch: .* holds no complete checkpoint", again.out)


def test_changes_since_the_last_session_are_said(run, busy):
    run(busy.clone(max_step=4))
    assert "changed since the last session: max_step: 4 -> 10" in run(busy).out


def test_a_damaged_checkpoint_costs_no_bit(run, busy):
    whole = run(busy, "whole")
    parts = run(busy.clone(max_step=8), "parts")
    manifest = newest_intact(parts.directory).info.path / "manifest.json"
    manifest.write_text("{")
    resumed = run(busy, "parts")
    assert "the checkpoint of step 8 is damaged" in resumed.out
    assert "resuming from step 6" in resumed.out
    assert resumed.metrics == whole.metrics


def test_data_that_were_exchanged_are_refused(run, busy):
    class Moved(tiny.Counting):
        def describe(self):
            return super().describe() | {"shards": (version,)}

    version = "before"
    busy.input = Moved.default_config().set(batch_size=8)
    run(busy.clone(max_step=2))
    run(busy.clone(max_step=4))
    version = "after"
    refused = run(busy, fails=UserError)
    assert r"shards: ['before'] -> ['after']" in str(refused.error)


# Evaluation.


@pytest.mark.parametrize("every, at", [(4, [4, 8, 10]), (5, [5, 10]), (None, [10])])
def test_evaluations_run_on_schedule_and_at_the_end(run, busy, every, at):
    busy.evaluations["held_out"].set(every=every)
    assert steps(run(busy), "held_out/loss") == at


def test_an_evaluation_does_not_change_what_is_learned(run, busy):
    with_it, without = run(busy, "a"), run(busy.clone(evaluations={}), "b")
    losses = [[r["loss"] for r in records(each) if "loss" in r] for each in (with_it, without)]
    assert losses[0] == losses[1]


def test_an_evaluation_uses_at_most_max_batches(run, busy):
    busy.evaluations["held_out"].input.set(num_batches=None)
    busy.evaluations["held_out"].set(max_batches=3)
    assert records(run(busy))[-1]["held_out/tokens"] == 3 * 8 * 8


def test_what_compressors_make_of_the_text_stands_beside_the_loss(run, busy):
    class Compressed(tiny.Counting):
        def baselines(self):
            return {"xz -9": 2.2}

    busy.evaluations["held_out"].input = Compressed.default_config().set(
        batch_size=8, num_batches=1
    )
    lines = run(busy).out.splitlines()
    (evaluated,) = (line for line in lines if line.startswith("eval held_out at step 10"))
    (done,) = (line for line in lines if line.startswith("done"))
    for line in (evaluated, done):
        assert re.search(r"\d\.\d{4} nats/character \(xz -9: 2\.200\)$", line)


# Observers and writers.


def test_observers_are_told_in_order(run, observer, busy):
    seen = []
    hooks = ("run_started", "step_completed", "eval_completed", "checkpoint_saved", "run_finished")
    functions = {h: (lambda e, h=h: seen.append((h, getattr(e, "step", None)))) for h in hooks}
    run(busy.set(max_step=4), test=observer(**functions))
    assert seen[0] == ("run_started", None)
    assert seen[-1] == ("run_finished", 4)
    of_steps = [event for event in seen if event[0] in ("step_completed", "eval_completed")]
    assert of_steps == [
        ("step_completed", 1),
        ("step_completed", 2),
        ("eval_completed", 2),
        ("step_completed", 3),
        ("step_completed", 4),
        ("eval_completed", 4),
    ]
    assert [event for event in seen if event[0] == "checkpoint_saved"] == [
        ("checkpoint_saved", 2),
        ("checkpoint_saved", 4),
    ]


def test_observers_learn_how_a_run_failed(run, observer, busy, monkeypatch):
    seen = []
    busy.input = Broken.default_config().set(batch_size=8)
    monkeypatch.setattr(Broken, "fails_at", 3)
    run(busy, fails=OSError, test=observer(run_finished=seen.append))
    (event,) = seen
    assert event.reason == "failed: no such disk"
    assert 1 <= event.step <= 3  # whose values have arrived


class Memory(Writer):
    """Keeps what it is told."""

    told: list = []

    def open(self, directory, *, after_step):
        self.told.append(("open", after_step))

    def write(self, step, kind, values):
        self.told.append((step, kind, sorted(values)))

    def flush(self):
        self.told.append("flush")

    def close(self):
        self.told.append("close")


def test_writers_of_the_config_are_opened_told_flushed_and_closed(run, busy):
    Memory.told.clear()
    record = WriterRecord("memory", f"{__name__}:Memory", "Keeps it.")
    run(busy.set(max_step=2, writers=[Memory.default_config()]), records=[record])
    train = ["gradient_norm", "learning_rate", "loss", "target_tokens"]
    held_out = ["held_out/loss", "held_out/loss_per_character", "held_out/tokens"]
    without_speed = [told for told in Memory.told if told[1:2] != ("performance",)]
    assert without_speed == [
        ("open", 0),
        (1, "train", train),
        (2, "train", train),
        (2, "eval", held_out),
        "flush",
        "close",
    ]


def test_a_writer_that_resumes_knows_after_which_step(run, busy):
    Memory.told.clear()
    record = WriterRecord("memory", f"{__name__}:Memory", "Keeps it.")
    busy.set(writers=[Memory.default_config()])
    run(busy.clone(max_step=4), records=[record])
    run(busy, records=[record])
    assert [told for told in Memory.told if told[0] == "open"] == [("open", 0), ("open", 4)]


# What goes wrong.

EVERY_0 = Evaluation.default_config().set(input=tiny.Counting.Config(batch_size=8), every=0)


class Broken(tiny.Counting):
    """An input whose disk fails before a batch, or gives a weight that is not finite."""

    fails_at = infinite_at = -1

    def batches(self, **place):
        return BrokenBatches(super().batches(**place), self.fails_at, self.infinite_at)


class BrokenBatches:
    def __init__(self, inner, fails_at, infinite_at):
        self.inner, self.fails_at, self.infinite_at = inner, fails_at, infinite_at
        self.get_state, self.set_state = inner.get_state, inner.set_state

    def __iter__(self):
        return self

    def __next__(self):
        made = self.get_state()["made"]
        if made == self.fails_at:
            raise OSError("no such disk")
        batch = next(self.inner)
        if made == self.infinite_at:
            batch["target_weights"][0, 0] = np.inf
        return batch


def test_an_input_that_ends_early_says_where_and_saves(run, busy):
    busy.input.set(num_batches=7)
    ended = run(busy, fails=UserError)
    assert "the input ended after step 7" in str(ended.error)
    assert "set max_step=7" in str(ended.error)
    assert newest_intact(ended.directory).info.step == 7
    assert "step 7 is done already" in run(busy.clone(max_step=7)).out


def test_an_input_without_any_batch_is_told_too(run, busy):
    busy.input.set(num_batches=0)
    assert "the input ended after step 0" in str(run(busy, fails=UserError).error)


def test_a_loss_that_is_not_finite_names_its_step(run, busy, monkeypatch):
    busy.input = Broken.default_config().set(batch_size=8)
    monkeypatch.setattr(Broken, "infinite_at", 6)
    failed = run(busy, fails=NonFiniteError)
    assert str(failed.error).startswith("step 7: the loss (nan)")
    assert [info.step for info in checkpoints(failed.directory, verify=True)] == [2, 4, 6]


def test_a_run_that_failed_goes_on_from_its_last_checkpoint(run, busy, monkeypatch):
    busy.input = Broken.default_config().set(batch_size=8)
    whole = run(busy, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Broken, "fails_at", 7)
        run(busy, "failed", fails=OSError)
    assert run(busy, "failed").metrics == whole.metrics


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"mesh_shape": {"data": 16}}, r"needs 16 devices, and there are 8"),
        ({"mesh_shape": {"data": 3, "fsdp": -1}}, r"3 does not divide the 8 devices"),
        ({"mesh_shape": {"date": 8}}, r"no axis 'date'\. Did you mean 'data'\?"),
        ({"accumulation": 3}, r"input\.batch_size \(=8\) must be a multiple of 3, .*accumulation"),
        (
            {"mesh_shape": {"data": 8}, "accumulation": 2},
            r"multiple of 16, that is data \(=8\) x accumulation \(=2\)",
        ),
        (
            {"mesh_shape": {"data": 4, "seq": 3}},
            r"mesh_shape .* needs 12 devices, and there are 8",
        ),
        (
            {"mesh_shape": {"seq": 3}},
            r"input gives input_ids of 8 tokens per row, .* a multiple of 3, that is seq \(=3\)",
        ),
        (
            {"mesh_shape": {"data": 2, "expert": 4}},
            r"mesh_shape\.expert \(=4\), but nothing of this model is split over it",
        ),
        (
            {"mesh_shape": {"fsdp": 2}, "slow_mesh_shape": {"data": 16}},
            r"slow_mesh_shape .* needs 16 network domains",
        ),
        ({"sharding_rules": {"batch": "rows"}}, r"'batch': 'rows' names no mesh axis"),
        (
            {"mesh_shape": {"fsdp": 2}, "sharding_rules": {"batch": "data", "embed": "fsdp"}},
            r"table: axis 'vocab' of size 26, .* write sharding_rules\.vocab=null or a mesh axis",
        ),
        ({"evaluations": {"x": EVERY_0}}, r"evaluations\.x\.every \(=0\) must be >= 1, or null"),
        ({"max_step": 0}, r"max_step, log_every and accumulation must be at least 1"),
    ],
)
def test_a_config_that_does_not_fit_fails_before_anything_is_written(run, busy, fields, says):
    with pytest.raises(ConfigError, match=says):
        run(busy.set(**fields))


def test_a_dimension_that_the_mesh_does_not_divide_is_named(run, busy):
    with pytest.raises(ConfigError, match=r"table: axis 'embed' of size 26 over fsdp \(=4\)"):
        run(busy.set(mesh_shape={"fsdp": 4}))


def test_evaluation_batches_that_do_not_fit_fail_before_training(run, busy):
    busy.set(mesh_shape={"data": 8})
    busy.evaluations["held_out"].input.set(batch_size=4)
    with pytest.raises(ConfigError, match=r"evaluations\.held_out\.input\.batch_size \(=4\)"):
        run(busy)


# Where the time went.


def seconds(directory):
    return account(read_events(directory)).seconds


def test_a_run_knows_where_its_time_went_and_says_it(run, busy):
    trained = run(busy)
    spent = seconds(trained.directory)
    for category in ("init", "compile", "data_wait", "step", "eval", "checkpoint"):
        assert spent[category] > 0
    assert spent["lost_work"] == spent["recovery"] == spent["idle"] == 0
    assert re.search(r"^goodput +\d+\.\d% of .*: \w.* \d+\.\d%", trained.out, re.M)


def test_a_run_that_failed_lost_the_steps_since_its_checkpoint(run, busy, monkeypatch):
    busy.input = Broken.default_config().set(batch_size=8)
    with monkeypatch.context() as patch:
        patch.setattr(Broken, "fails_at", 7)
        failed = run(busy, fails=OSError)
    assert seconds(failed.directory)["lost_work"] == 0
    again = run(busy)
    spent = seconds(again.directory)
    assert spent["lost_work"] > 0
    assert spent["recovery"] > 0
    assert spent["idle"] > 0


def test_events_tell_what_happened(run, busy):
    first = run(busy.clone(max_step=4))
    (newest_intact(first.directory).info.path / "manifest.json").write_text("{")
    events = read_events(run(busy).directory)
    second = [event for event in events if event["session"] == 2]
    told = [e["event"] for e in second if e["event"] not in ("beat", "checkpoint_saved")]
    saves = ["evaluated", "checkpoint_started"] * 4
    assert told == ["session_started", "fault", "resumed", "compiled", *saves, "session_finished"]
    (fault,) = (event for event in second if event["event"] == "fault")
    assert fault["kind"] == "checkpoint_damaged"
    assert fault["message"].startswith("the checkpoint of step 4 is damaged")
    saved = [e["saved_step"] for e in second if e["event"] == "checkpoint_saved"]
    assert saved == [4, 6, 8, 10]


def test_performance_records_tell_the_goodput(run, busy):
    lines = (run(busy).directory / "performance.jsonl").read_text().splitlines()
    assert all(0 < json.loads(line)["goodput"] < 1 for line in lines)


# What one sees, and what is kept.


def test_at_most_30_lines_stand_above_the_first_loss(run, busy):
    changes = [f"model.x{i}: 0 -> 1 (override {i})" for i in range(100)]
    lines = run(busy, changes=changes).out.splitlines()
    first_step = next(i for i, line in enumerate(lines) if line.startswith("step "))
    assert first_step <= 30
    assert any("and 88 more" in line for line in lines)


def test_the_line_of_a_step_tells_speed_and_memory(run, busy):
    (line,) = (x for x in run(busy).out.splitlines() if x.startswith("step 10/10"))
    for name in ("loss", "lr", "grad", "tok/s", "wait", "mem", "eta"):
        assert f"  {name} " in line


def test_a_model_that_knows_its_operations_has_a_utilisation(run, busy, monkeypatch):
    class Counted(tiny.BigramModel):
        def flops_per_step(self, batch_shape):
            return 1e3

    monkeypatch.setenv("AXLEARN_CPU_PEAK_FLOPS", "1e9")
    busy.model = Counted.default_config().set(vocab_size=26)
    trained = run(busy)
    assert "  mfu " in trained.out
    assert '"mfu": ' in (trained.directory / "performance.jsonl").read_text()


def test_the_last_lines_say_what_was_reached_and_what_to_type_next(run, busy):
    trained = run(busy)
    done, following = trained.out.splitlines()[-2:]
    assert re.fullmatch(r"done: step 10 in \d+s; loss \d.*, held_out \d.* nats/character", done)
    assert following == f"next: axl generate {trained.directory}"


def test_a_checkpoint_holds_the_values_of_its_step(run, busy):
    trained = run(busy.set(log_every=1))
    for info in checkpoints(trained.directory):
        (train, held_out) = (r for r in records(trained) if r["step"] == info.step)
        values = read_facts(info.path)["values"]
        assert values["train"]["loss"] == train["loss"]
        assert values["held_out"]["loss"] == held_out["held_out/loss"]


def test_compiled_programs_are_kept_where_the_config_says(run, busy, tmp_path):
    run(busy.set(compile_cache=str(tmp_path / "programs")))
    assert any("train_step" in path.name for path in (tmp_path / "programs").iterdir())
