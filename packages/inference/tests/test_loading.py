"""From a checkpoint to a model: parameters alone, as the run evaluates with them."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axlearn_core._plugin
from axlearn_core.checkpoint import choose, read_array, read_manifest
from axlearn_core.cli.main import main
from axlearn_core.config import ConfigError
from axlearn_core.errors import UserError
from axlearn_core.testing import tiny
from axlearn_core.testing.registries import isolated_registry
from axlearn_inference import Request, Sampling, complete, load

EXPERIMENTS = '''
from typing import Any, NamedTuple
import jax, jax.numpy as jnp
from axlearn_core.config import REQUIRED
from axlearn_core.module import ParameterSpec, zeros
from axlearn_core.testing import tiny
from axlearn_core.training.learner import LearnerUpdate

class State(NamedTuple):
    half: Any  # what evaluation reads
    momentum: Any  # what it does not

class Halving(tiny.GradientDescent):
    """Evaluates with half of the weights."""

    class Config(tiny.GradientDescent.Config):
        pass

    def init(self, params):
        return State(jax.tree.map(lambda p: p / 2, params), params)

    def state_axes(self):
        axes = {"table": ("embed", "vocab"), "scale": ()}
        return State(axes, axes)

    def update(self, grads, opt_state, params, step):
        made = super().update(grads, (), params, step)
        half = jax.tree.map(lambda p: p / 2, made.params)
        return made._replace(opt_state=State(half, made.params))

    def evaluation_params(self, params, opt_state):
        return opt_state.half

class ScaledModel(tiny.BigramModel):
    class Config(tiny.BigramModel.Config):
        pass

    def own_parameters(self):
        scale = ParameterSpec((), (), zeros, keeps_precision=True)
        shift = ParameterSpec((), (), zeros, trainable=False)
        return {**super().own_parameters(), "scale": scale, "shift": shift}

def plain():
    cfg = tiny.experiment()
    cfg.model = ScaledModel.default_config().set(vocab_size=26)
    return cfg.set(max_step=3, evaluations={}, mesh_shape={"data": 2})

class MuteModel(ScaledModel):
    class Config(ScaledModel.Config):
        pass

    extend = None

class Told(tiny.Counting):
    """Says to what length a model was trained, as that of an import does."""

    class Config(tiny.Counting.Config):
        max_length: int | None = None

def mute():
    return plain().set(model=MuteModel.default_config().set(vocab_size=26), max_step=1)

def halved():
    cfg = plain()
    cfg.learner = Halving.default_config()
    cfg.input = Told.default_config().set(batch_size=8, max_length=9)
    return cfg
'''


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs by the name of their experiment."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "loading_experiments.py").write_text(EXPERIMENTS)
    sys.path.insert(0, str(folder))
    with isolated_registry(axlearn_core=axlearn_core._plugin):
        for name in ("plain", "halved", "mute"):
            words = ["train", f"loading_experiments:{name}", "--dir", str(folder / name)]
            assert main(words) == 0
        yield folder
    sys.path.remove(str(folder))


def held(directory, name):
    folder = choose(directory, None).info.path
    return read_array(folder, read_manifest(folder).arrays[name])


def bits(x):
    return (x.dtype, np.asarray(x).tobytes())


def test_parameters_have_the_bits_of_the_checkpoint(runs):
    model = load(runs / "plain")
    assert model.variables.keys() == {"table", "scale", "shift"}
    assert bits(model.variables["table"]) == bits(held(runs / "plain", "params.table"))
    assert (model.name, model.dtype, model.vocab_size) == ("plain", "float32", 26)


def test_the_longest_sequence_is_what_the_input_tells(runs):
    assert load(runs / "plain").max_length is None
    assert load(runs / "halved").max_length == 9
    assert load(runs / "halved", overrides=["input.max_length=null"]).max_length is None


def test_a_learner_s_evaluation_parameters_are_what_is_loaded(runs):
    model = load(runs / "halved")
    assert bits(model.variables["table"]) == bits(held(runs / "halved", "params.table") / 2)


def test_of_a_learner_only_what_evaluation_reads_is_read(runs, monkeypatch):
    import axlearn_inference.loading as loading

    read = []

    def spy(folder, like, real=loading.restore_part):
        read.append(jax.tree.map(lambda x: x.shape, like))
        return real(folder, like)

    monkeypatch.setattr(loading, "restore_part", spy)
    load(runs / "halved")
    load(runs / "plain")
    halved, plain = read
    assert jax.tree.leaves(halved["params"]) == []
    assert halved["learner"].momentum == {"table": None, "scale": None}
    assert halved["learner"].half["table"] == (26, 26)
    assert plain.keys() == {"params", "module_state"}


@pytest.mark.parametrize("name", ["plain", "halved"])
def test_a_dtype_is_that_of_all_but_what_keeps_its_precision(runs, name):
    variables = load(runs / name, dtype="bfloat16").variables
    dtypes = {key: x.dtype.name for key, x in variables.items()}
    assert dtypes == {"table": "bfloat16", "scale": "float32", "shift": "float32"}
    exact = load(runs / name).variables["table"]
    assert bits(variables["table"]) == bits(exact.astype(jnp.bfloat16))


def test_overrides_split_the_parameters_over_devices(runs):
    model = load(runs / "plain", overrides=['mesh_shape={"model": 2, "data": -1}'])
    assert model.placement.mesh.size == 2  # nothing is split over data
    assert len(model.variables["table"].sharding.device_set) == 2
    request = Request((0,), max_tokens=3, sampling=Sampling(temperature=0))
    assert complete(model, [request])[0].text == complete(load(runs / "plain"), [request])[0].text


def test_a_run_s_mesh_that_is_not_here_becomes_one_device(runs, monkeypatch):
    one = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    assert load(runs / "plain").placement is None


def test_a_mesh_that_is_asked_for_and_not_here_is_refused(runs):
    with pytest.raises(ConfigError, match="needs 13 devices"):
        load(runs / "plain", overrides=['mesh_shape={"model": 13}'])


def test_without_the_input_s_data_ids_are_usable(runs, monkeypatch, caplog):
    def tokenizer(self):
        raise UserError("there is no folder data")

    monkeypatch.setattr(tiny.Counting, "tokenizer", tokenizer)
    model = load(runs / "plain")
    assert model.tokenizer is None
    assert "no tokenizer, so ids stand for no text: there is no folder data" in caplog.text
    assert len(complete(model, [Request((0,), max_tokens=2)])[0].ids) == 2


def test_a_model_without_a_cache_is_named(runs):
    with pytest.raises(ConfigError, match="MuteModel cannot generate: it has no init_cache"):
        load(runs / "mute")


def test_no_checkpoint_is_said(runs):
    with pytest.raises(UserError, match="no complete checkpoint of step 9"):
        load(runs / "plain", step=9)
    with pytest.raises(UserError, match="there is no directory"):
        load(Path("nowhere"))
