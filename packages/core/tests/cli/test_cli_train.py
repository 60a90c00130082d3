"""axl train: what it says and writes, and every way in which a command can be wrong."""

import json
import os

import jax
import pytest

from axlearn_core.checkpoint import checkpoints
from axlearn_core.plugins import ExperimentRecord

TINY_RECORD = ExperimentRecord("acme.tiny", "axlearn_core.testing.tiny:experiment", "Tiny.")

INCOMPLETE = """
from axlearn_core.config import REQUIRED
from axlearn_core.testing import tiny

def experiment():
    cfg = tiny.experiment()
    cfg.model.vocab_size = cfg.input.batch_size = REQUIRED
    return cfg

def number():
    return 3
"""

EXPLODING = """
import jax.numpy as jnp
from axlearn_core.testing import tiny

class Exploding(tiny.GradientDescent):
    def update(self, grads, opt_state, params, step):
        update = super().update(grads, opt_state, params, step)
        norm = jnp.where(step == 7, jnp.inf, update.metrics["gradient_norm"])
        return update._replace(metrics=update.metrics | {"gradient_norm": norm})

def experiment():
    return tiny.experiment().set(learner=Exploding.default_config())
"""


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_learns_evaluates_saves_and_says_what_comes_next(train, tmp_path):
    out = train().out
    metrics = records(tmp_path / "run/metrics.jsonl")
    assert [record["step"] for record in metrics] == [1, 10, 20, 20]
    assert metrics[0]["loss"] > 3.2 > 0.5 > metrics[2]["loss"]
    assert metrics[3]["held_out/loss"] < 0.5
    assert [info.step for info in checkpoints(tmp_path / "run", verify=True)] == [20]
    assert out.splitlines()[-1] == "next: axl generate run"


def test_the_first_loss_comes_within_thirty_lines(train):
    lines = train().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("step "))
    assert first <= 30


def test_what_was_overridden_is_shown_with_its_place(train):
    assert "changed   max_step: 20 -> 1 (override 1: max_step=1)" in train("max_step=1").out


def test_without_dir_the_run_gets_one_named_after_the_experiment(axl, tmp_path):
    done = axl("train", "acme.tiny", "max_step=1", records=[TINY_RECORD])
    assert done.code == 0
    assert (tmp_path / "runs/acme.tiny/metrics.jsonl").exists()
    assert "directory   runs/acme.tiny" in done.out


def test_more_steps_go_on_where_the_run_ended(train, tmp_path):
    train()
    out = train("max_step=25").out
    assert "resuming from step 20" in out
    assert "changed since the last session: max_step: 20 -> 25" in out
    assert [r["step"] for r in records(tmp_path / "run/metrics.jsonl")] == [1, 10, 20, 20, 25, 25]


def test_a_finished_run_is_left_alone(train):
    train()
    assert "step 20 is done already, and max_step is 20" in train().out


def test_writers_are_named_in_a_list(train, tmp_path):
    train('writers=["tensorboard"]', "max_step=1")
    assert list((tmp_path / "run/tensorboard").iterdir())


def test_accumulation_gives_the_losses_of_one_batch(train, axl, tiny, tmp_path):
    overrides = ("max_step=3", "log_every=1", 'mesh_shape={"data": 4}')
    train(*overrides)
    axl("train", tiny, *overrides, "accumulation=2", "--dir", "two")
    once, twice = (records(tmp_path / f"{name}/metrics.jsonl") for name in ("run", "two"))
    assert [r["step"] for r in once] == [r["step"] for r in twice]
    for a, b in zip(once[:3], twice[:3], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)  # the order of the sums differs


# What goes wrong: one message, exit code 1, no traceback.


def fails(done, *parts):
    assert done.code == 1
    assert done.err.startswith("axl: error: ")
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    return True


def test_an_unknown_experiment_is_answered_with_near_names(axl):
    done = axl("train", "acme.tny", records=[TINY_RECORD])
    assert fails(done, "there is no experiment 'acme.tny'. Did you mean 'acme.tiny'?")


def test_an_unknown_module_says_how_to_write_an_experiment(axl):
    assert fails(axl("train", "no_such:experiment"), "cannot import 'no_such'", "module:function")


def test_an_unknown_function_is_named(axl):
    done = axl("train", "axlearn_core.testing.tiny:experimnt")
    assert fails(done, "axlearn_core.testing.tiny has no function 'experimnt'")


def test_an_experiment_that_is_no_trainer_is_refused(axl, tmp_path):
    (tmp_path / "incomplete.py").write_text(INCOMPLETE)
    assert fails(axl("train", "incomplete:number"), "must return a trainer's config, got 3")
    done = axl("train", "axlearn_core.testing.tiny:Counting.default_config")
    assert fails(done, "has no function 'Counting.default_config'")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_stp=3", "There is no field 'max_stp'. Did you mean 'max_step'?"),
        ("learner.rate=3", "'learner' has no field 'rate'."),
        ("**.rate=3", "override '**.rate=3' matches nothing."),
        ("max_step=many", "max_step must be int, got 'many'"),
        ("model=acme/transformer", "there is no component 'acme/transformer'."),
        ('writers=["tensorbord"]', "Did you mean 'tensorboard'?"),
        ("max_step", "'max_step' is no override; write path=value"),
        ("max_step=0", "max_step, log_every and accumulation must be at least 1"),
        ("checkpoint.keep=0", "keep (=0) must be at least 1"),
    ],
)
def test_a_bad_override_is_explained(train, override, message):
    assert fails(train(override, code=1), message)


def test_all_missing_fields_are_listed(axl, tmp_path):
    (tmp_path / "incomplete.py").write_text(INCOMPLETE)
    done = axl("train", "incomplete:experiment")
    assert fails(done, "2 required fields are not set:", "model.vocab_size", "input.batch_size")


def test_a_batch_that_the_devices_do_not_divide_is_refused(train):
    message = f"input.batch_size (=6) must be a multiple of {len(jax.devices())}, that is data (="
    assert fails(train("input.batch_size=6", code=1), message)


def test_micro_batches_that_do_not_divide_the_batch_are_refused(train):
    done = train("accumulation=3", 'mesh_shape={"data": 1}', code=1)
    assert fails(done, "input.batch_size (=8) must be a multiple of", "accumulation (=3)")


def test_an_evaluation_that_the_devices_do_not_divide_is_refused_before_training(train, tmp_path):
    done = train("evaluations.held_out.input.batch_size=6", code=1)
    assert fails(done, "evaluations.held_out.input.batch_size (=6) must be a multiple of")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_mesh_larger_than_the_devices_is_refused(train):
    done = train('mesh_shape={"data": 64}', code=1)
    assert fails(done, f"needs 64 devices, and there are {len(jax.devices())}")


def test_parameters_that_the_mesh_does_not_divide_are_listed(train):
    done = train('mesh_shape={"fsdp": 8}', code=1)
    assert fails(
        done, "the mesh does not divide these parameters:", "table: axis 'embed' of size 26"
    )


def test_a_directory_that_cannot_be_written_is_named(axl, tiny, tmp_path):
    (tmp_path / "file").write_text("in the way, for root too")
    done = axl("train", tiny, "--dir", "file/run")
    assert fails(done, "cannot write to file/run: Not a directory. Choose another --dir")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_named(axl, tiny, tmp_path):
    (tmp_path / "mine").mkdir(mode=0o500)
    done = axl("train", tiny, "--dir", "mine/run")
    assert fails(done, "cannot write to mine/run: Permission denied. Choose another --dir")


def test_the_directory_of_another_experiment_is_refused_with_a_diff(train, tmp_path):
    train()
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    done = train("learner.learning_rate=3", "seed=1", code=1)
    assert fails(done, "holds a run of another config", "learner.learning_rate: 10.0 -> 3.0")
    assert "seed: 0 -> 1" in done.err
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_with_its_step_and_keeps_the_checkpoint(axl, tmp_path):
    (tmp_path / "exploding.py").write_text(EXPLODING)
    done = axl("train", "exploding:experiment", "checkpoint.every=5", "--dir", "run")
    assert fails(done, "step 8: the loss", "is not finite", "The last checkpoint is intact")
    assert [info.step for info in checkpoints(tmp_path / "run", verify=True)] == [5]
    again = axl("train", "exploding:experiment", "checkpoint.every=5", "--dir", "run")
    assert "resuming from step 5" in again.out and "step 8: the loss" in again.err


def test_an_input_that_ends_too_early_is_named(train):
    done = train("input.num_batches=7", code=1)
    assert fails(done, "the input ended after step 7, which is saved")


def test_verbose_adds_the_traceback(train):
    assert "Traceback (most recent call last)" in train("max_step=0", "-v", code=1).err


def test_a_run_can_be_watched_and_reported(axl, train, tmp_path):
    train("max_step=3")
    assert "completed" in axl("watch", "--once", "run").out
    assert axl("report", "run").out == "saved report.html\n"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "override 1: max_step=3" in page  # run.json tells what the experiment was changed in
    assert jax.__version__ in page
