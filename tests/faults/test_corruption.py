"""Bits that flip without a word: in a weight, in a gradient, in what a collective gave."""

import io
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from axlearn_core.checkpoint import checkpoints
from axlearn_core.config import ConfigError
from axlearn_core.guards.corruption import Corruption, CorruptionError, CorruptionWatch, minority
from axlearn_core.observe.progress import Progress
from axlearn_core.testing import faults, tiny
from axlearn_core.training.program import Program
from axlearn_core.training.share import place_batch

CLEAN_STEPS = int(os.environ.get("AXLEARN_CLEAN_STEPS", "100"))  # by hand: 1000


def experiment(**fields):
    cfg = faults.experiment().set(mesh_shape={"data": 8}, max_step=20)
    cfg.checkpoint.every = None
    cfg.guards.corruption.set(**fields)
    return cfg


def train(cfg, directory):
    return cfg.instantiate().run(directory, progress=Progress(cfg.max_step, io.StringIO()))


@pytest.fixture
def flipping(monkeypatch):
    """Flips a bit of a device's copy of the table after a step."""
    compiled = Program._compile_train_step

    def flipping(step, device):
        def compile_and_flip(self, batch_shape):
            made = compiled(self, batch_shape)
            calls = []

            def run(state, batch):
                state, metrics = made.run(state, batch)
                calls.append(None)
                if len(calls) == step:
                    state.params["table"] = faults.flip_bit(state.params["table"], device=device)
                return state, metrics

            return made._replace(run=run)

        monkeypatch.setattr(Program, "_compile_train_step", compile_and_flip)

    return flipping


@pytest.mark.parametrize("step, device, found_at", [(3, 6, 4), (8, 0, 8)])
def test_a_bit_that_flips_in_a_weight_is_found_within_k_steps_and_its_device_named(
    tmp_path, flipping, step, device, found_at
):
    flipping(step, device)
    with pytest.raises(CorruptionError) as caught:
        train(experiment(replicas_every=4), tmp_path)
    assert str(caught.value).startswith(f"step {found_at}: devices that must hold the same bits")
    assert f"params.table of device {device} (cpu, process 0) differs from the 7" in str(
        caught.value
    )
    assert ("at step 4 all copies were the same" in str(caught.value)) == (found_at == 8)


def test_what_is_saved_is_compared_before(tmp_path, flipping):
    flipping(5, 2)
    cfg = experiment(replicas_every=1000)
    cfg.checkpoint.every = 3
    with pytest.raises(CorruptionError, match=r"step 6: .*\n.*device 2 "):
        train(cfg, tmp_path)
    assert [info.step for info in checkpoints(tmp_path, verify=True)] == [3]


class FlippedOnArrival(tiny.GradientDescent):
    """What device 3 got of the gradients' sum at step 6 has a wrong bit."""

    def update(self, grads, opt_state, params, step):
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))

        def arrived(grad, step):
            bits = jax.lax.bitcast_convert_type(grad, jnp.uint32)
            wrong = (jax.lax.axis_index("data") == 3) & (step == 5)
            bits = bits.at[0, 0].set(bits[0, 0] ^ jnp.where(wrong, jnp.uint32(1 << 12), 0))
            return jax.lax.bitcast_convert_type(bits, jnp.float32)

        whole = PartitionSpec()
        spread = jax.shard_map(
            arrived, mesh=mesh, in_specs=(whole, whole), out_specs=whole, check_vma=False
        )
        grads = {"table": spread(grads["table"], step)}
        return super().update(grads, opt_state, params, step)


def test_a_bit_that_flips_in_one_replicas_collective_is_found_and_its_device_named(tmp_path):
    cfg = experiment(replicas_every=2)
    cfg.learner = FlippedOnArrival.default_config()
    with pytest.raises(CorruptionError, match=r"step 6: .*\n.*params\.table of device 3 "):
        train(cfg, tmp_path)


def test_with_two_replicas_both_are_named(tmp_path, flipping):
    flipping(3, 1)
    cfg = experiment(replicas_every=3).set(mesh_shape={"data": 2})
    with pytest.raises(CorruptionError, match=r"table differs between device 0 .*, device 1 "):
        train(cfg, tmp_path)


class Flaky(tiny.BigramModel):
    """One of the devices, whose rows begin with a given letter, is wrong once."""

    wrong: dict = {}

    def forward(self, batch):
        loss = super().forward(batch)

        def factor(ids):
            once = Flaky.wrong.pop(int(ids[0, 0]), 0)
            return np.float32(1 + once)

        scale = jax.pure_callback(factor, jax.ShapeDtypeStruct((), jnp.float32), batch["input_ids"])
        return loss._replace(total=loss.total * scale)


def test_a_device_that_computes_a_wrong_gradient_is_named():
    """By the parts per million by which a flip of a low bit changes a sum."""
    cfg = experiment(gradients_every=5)
    cfg.model = Flaky.default_config().set(vocab_size=26)
    trainer = cfg.instantiate()
    program = trainer.program(trainer.placement())
    local = next(trainer.input.batches())
    starts = local["input_ids"][:, 0].tolist()
    rare = next(i for i, start in enumerate(starts) if starts.count(start) == 1)
    watch = CorruptionWatch(
        trainer.config.guards.corruption, program, lambda *_: None, trainer.input.batch_shape()
    )
    state, batch = program.initial_state(), place_batch(local, program.placement)
    watch.before_step(5, state, batch)  # is right
    Flaky.wrong[starts[rare]] = 1e-6
    watch.before_step(4, state, batch)  # is not due
    named = rf"step 5: device {rare} \(cpu, process 0\) computed"
    with pytest.raises(CorruptionError, match=named):
        watch.before_step(5, state, batch)
    watch.before_step(5, state, batch)


def test_a_step_that_gives_another_state_when_it_is_made_again_names_the_devices(
    tmp_path, flipping
):
    """Also where each part of the state is on one device only."""
    flipping(7, 1)  # the seventh call makes step 6, since step 3 was made twice
    cfg = experiment(steps_every=3).set(mesh_shape={"fsdp": 2})
    with pytest.raises(CorruptionError, match=r"step 6, made twice .* states on device 1 \(cpu"):
        train(cfg, tmp_path)


def test_clean_steps_raise_no_alarm_and_compute_the_same_bits(tmp_path):
    """All of them are checked, in all ways."""
    cfg = experiment(replicas_every=1, gradients_every=1, steps_every=1).set(max_step=CLEAN_STEPS)
    plain = experiment().set(max_step=CLEAN_STEPS)
    assert train(cfg, tmp_path / "checked").step == CLEAN_STEPS
    train(plain, tmp_path / "plain")
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("checked", "plain")]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize(
    "values, places",
    [([7, 7, 7], []), ([7, 8, 7], [1]), ([8, 7], [0, 1]), ([1, 2, 2, 3], [0, 3]), ([5], [])],
)
def test_the_minority_is_wrong_and_of_a_tie_all(values, places):
    assert minority(values) == places


def test_a_distance_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match=r"gradients_every \(=0\) must be at least 1, or null"):
        Corruption.Config(gradients_every=0).instantiate()
