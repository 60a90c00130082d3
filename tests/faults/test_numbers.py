"""Losses that are not finite, and spikes: stop, skip, or go back and around them."""

import io
import json
import os
import signal

import jax
import numpy as np
import pytest

from axlearn_core import _plugin
from axlearn_core.checkpoint import newest_intact
from axlearn_core.checkpoint.checkpointer import read_facts
from axlearn_core.cli.main import main
from axlearn_core.guards.numbers import NonFiniteError
from axlearn_core.observe.events import read_events
from axlearn_core.observe.progress import Progress
from axlearn_core.plugins import hookimpl
from axlearn_core.testing import faults
from axlearn_core.testing.registries import isolated_registry
from axlearn_core.training.resume import restore_state
from axlearn_core.training.share import place_batch

EXPERIMENT = "axlearn_core.testing.faults:experiment"


@pytest.fixture
def cfg():
    """Ten steps on one device, saved after every second one."""
    cfg = faults.experiment().set(max_step=10, mesh_shape={"data": 1})
    cfg.checkpoint.set(every=2, keep=10)
    cfg.compile_cache = None
    return cfg


def train(cfg, directory, **plugins):
    """Returns what a run says, and the error that ended it, if one did."""
    out, error = io.StringIO(), None
    with isolated_registry(axlearn_core=_plugin, **plugins):
        try:
            progress = Progress(cfg.max_step, out)
            cfg.instantiate().run(directory, experiment=EXPERIMENT, progress=progress)
        except NonFiniteError as caught:
            error = caught
    return out.getvalue(), error


def final(cfg, directory):
    """The step and the table of the newest checkpoint."""
    trainer = cfg.instantiate()
    info = newest_intact(directory).info
    program = trainer.program(trainer.placement())
    state = restore_state(info.path, read_facts(info.path), program)
    return int(state.step), np.asarray(state.params["table"])


def by_hand(cfg, numbers):
    """The table after steps with the batches of these numbers."""
    trainer = cfg.clone(guards=faults.experiment().guards).instantiate()
    program = trainer.program(trainer.placement())
    step = program.compile_train_step(trainer.input.batch_shape()).result().run
    state, batches = program.initial_state(), trainer.input.batches()
    for number in numbers:
        batches.set_state({"made": number})
        state, _ = step(state, place_batch(next(batches), program.placement))
    return np.asarray(state.params["table"])


def records(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_stop_ends_the_run_and_keeps_the_batch(cfg, tmp_path):
    cfg.input.nan_at = [6]
    _, error = train(cfg, tmp_path)
    assert str(error).startswith("step 7: the loss (nan)")
    assert f"`axl replay {tmp_path} 7` shows where it arises" in str(error)
    assert newest_intact(tmp_path).info.step == 6
    with np.load(tmp_path / "faults/00000007/batch.npz") as kept:
        assert np.isnan(kept["target_weights"][0, 0])


def test_skip_leaves_out_the_update_as_if_the_batch_had_been_empty(cfg, tmp_path):
    cfg.guards.numbers.policy = "skip"
    skipping = cfg.clone()
    skipping.input.nan_at = [3, 6]
    out, error = train(skipping, tmp_path)
    assert error is None
    assert "step 4: the loss (nan)" in out and "The update is skipped" in out
    cfg.input.empty_at = [3, 6]
    step, table = final(skipping, tmp_path)
    assert step == 10
    np.testing.assert_array_equal(table, by_hand(cfg, range(10)))
    counts = [record["guards/skipped_steps"] for record in records(tmp_path)]
    assert counts == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert faults_of(tmp_path) == ["step_skipped"] * 2


def test_a_run_that_only_skips_ends(cfg, tmp_path):
    cfg.guards.numbers.set(policy="skip", max_skips=3)
    cfg.input.nan_at = list(range(2, 10))
    _, error = train(cfg, tmp_path)
    assert str(error).startswith("step 6: ")
    assert "As many as max_skips (=3) before it were skipped, too." in str(error)


def faults_of(directory):
    """The kinds of what a run has met, in the order of its events."""
    return [event["kind"] for event in read_events(directory) if event["event"] == "fault"]


def rewinding(cfg):
    cfg.guards.numbers.policy = "rewind"
    cfg.checkpoint.every = 4
    cfg.input.nan_at = [6]
    return cfg


def test_rewind_goes_on_from_the_checkpoint_with_the_data_after_the_bad_batch(cfg, tmp_path):
    out, error = train(rewinding(cfg), tmp_path)
    assert error is None
    assert "Going back to the last checkpoint" in out and "(rewind 1 of 3)" in out
    assert "resuming from step 4" in out
    assert faults_of(tmp_path) == ["rewind"]
    step, table = final(cfg, tmp_path)
    assert step == 10
    np.testing.assert_array_equal(table, by_hand(cfg, [0, 1, 2, 3, *range(7, 13)]))
    assert [record["step"] for record in records(tmp_path)] == list(range(1, 11))


class StopAt:
    def __init__(self, step, times):
        self.step, self.times = step, times

    @hookimpl
    def axlearn_step_completed(self, event):
        self.times -= event.step == self.step
        if event.step == self.step and self.times == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_that_is_stopped_around_a_rewind_ends_with_the_same_bits(cfg, tmp_path, times):
    """Step 6 is made twice: before the rewind, and after it."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(rewinding(cfg), whole)
    train(cfg, parts, stop=StopAt(6, times))
    assert newest_intact(parts).info.step < 10
    train(cfg, parts)
    np.testing.assert_array_equal(final(cfg, whole)[1], final(cfg, parts)[1])
    if times == 2:
        assert records(whole) == records(parts)


def test_rewinds_are_counted_over_restarts_and_have_an_end(cfg, tmp_path):
    rewinding(cfg).guards.numbers.max_rewinds = 2
    cfg.input.nan_at = [5, 8, 15]
    cfg.max_step = 12
    _, error = train(cfg, tmp_path)
    assert "There were max_rewinds (=2) already." in str(error)
    assert read_facts(newest_intact(tmp_path).info.path)["guards"]["rewinds"] == 2
    assert "There were max_rewinds (=2) already." in str(train(cfg, tmp_path)[1])


def test_a_spike_of_the_loss_is_found_and_gone_around(cfg, tmp_path):
    cfg.guards.numbers.set(policy="rewind", loss_deviations=4.0, window=5)
    cfg.input.spike_at = [12]
    cfg.max_step = 16
    out, error = train(cfg, tmp_path)
    assert error is None
    assert "step 13: the loss" in out and "is a spike" in out
    losses = [record["loss"] for record in records(tmp_path)]
    assert len(losses) == 16 and losses == sorted(losses, reverse=True)


def test_a_policy_may_change_between_two_sessions(cfg, tmp_path):
    train(cfg.clone(max_step=4), tmp_path)
    for number, fields in enumerate(
        ({"policy": "skip", "loss_deviations": 9.0}, {"window": 7, "policy": "rewind"}, {}), 3
    ):
        cfg.guards.numbers.set(**fields)
        out, error = train(cfg.clone(max_step=2 * number), tmp_path)
        assert error is None and f"resuming from step {2 * number - 2}" in out
        cfg.guards.numbers.loss_deviations = 9.0 if number == 3 else None
    np.testing.assert_array_equal(final(cfg, tmp_path)[1], by_hand(cfg, range(10)))


@pytest.mark.parametrize("step", [2, 7])
def test_replay_makes_the_step_again_and_says_where_it_was_not_finite(
    cfg, tmp_path, monkeypatch, capfd, step
):
    cfg.input.nan_at = [step - 1]
    train(cfg, tmp_path / "run")
    loss = {record["step"]: record["loss"] for record in records(tmp_path / "run")}
    files = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with isolated_registry(axlearn_core=_plugin):
        assert main(["replay", "run", str(step)]) == 0
        told = capfd.readouterr()
        assert main(["replay", "run", str(step - 1), "--json"]) == 0
    assert "not finite: target_weights of the batch" in told.out
    assert f"step {step}, with the batch that was kept" in told.err
    found = json.loads(capfd.readouterr().out)
    assert float(found["loss"]) == loss[step - 1]
    assert found["where"] is None and list(found["gradient_norms"]) == ["table"]
    assert sorted(tmp_path.rglob("*")) == files


def test_replay_says_which_module_gave_the_first_value_that_is_not_finite(tmp_path):
    from axlearn_core.guards.locate import locate
    from axlearn_core.testing import tiny

    class Logarithm(tiny.BigramModel):
        def forward(self, batch):
            loss = super().forward(batch)
            return loss._replace(total=loss.total + jax.numpy.log(loss.weight - loss.weight - 1))

    cfg = faults.experiment().set(mesh_shape={"data": 1})
    cfg.model = Logarithm.default_config().set(vocab_size=26)
    trainer = cfg.instantiate()
    program = trainer.program(trainer.placement())
    state, gradients = program.initial_state(), program.gradients()
    batch = place_batch(next(trainer.input.batches()), program.placement)
    found = locate(gradients, state, batch, jax.jit(gradients)(state, batch))
    assert found.startswith("invalid value (nan) encountered in log, in model (test_numbers.py:")
