"""A run that goes on though its config, its plugins or its data are others."""

import io

import pytest

from axlearn_core import _plugin
from axlearn_core.errors import UserError
from axlearn_core.observe.progress import Progress
from axlearn_core.plugins import get_registry
from axlearn_core.testing import faults
from axlearn_core.testing.registries import isolated_registry


@pytest.fixture
def cfg():
    cfg = faults.experiment().set(max_step=4, mesh_shape={"data": 1}, log_every=4)
    cfg.checkpoint.every = 2
    return cfg


def train(cfg, directory, accept=False):
    out = io.StringIO()
    with isolated_registry(axlearn_core=_plugin):
        result = cfg.instantiate().run(
            directory, progress=Progress(cfg.max_step, out), accept_changes=accept
        )
    assert result.step == cfg.max_step
    return out.getvalue()


def test_a_changed_config_is_refused_with_a_diff_and_accepted_if_asked_to(cfg, tmp_path):
    train(cfg, tmp_path)
    cfg.set(max_step=6).learner.learning_rate = 1.0
    with pytest.raises(UserError, match=r"learner\.learning_rate: 10\.0 -> 1\.0\n.*accept-changes"):
        train(cfg, tmp_path)
    out = train(cfg, tmp_path, accept=True)
    assert "changed since the last session: learner.learning_rate: 10.0 -> 1.0" in out
    assert "resuming from step 4" in out
    assert "learning_rate" not in train(cfg.set(max_step=8), tmp_path)  # it is the run's now


def test_changed_data_are_refused_with_a_diff_and_accepted_if_asked_to(cfg, tmp_path):
    train(cfg, tmp_path)
    cfg.set(max_step=6).input.seed = 7
    with pytest.raises(UserError, match=r"seed: 0 -> 7"):
        train(cfg, tmp_path)
    assert "accepted change of the input: seed: 0 -> 7" in train(cfg, tmp_path, accept=True)


class Elsewhere(faults.FaultyCounting):
    """Remembers its place under another name."""

    def batches(self, **place):
        batches = super().batches(**place)
        batches.set_state = lambda state: {}["rows", state]
        return batches


def test_data_that_do_not_know_the_place_begin_at_their_start(cfg, tmp_path):
    train(cfg, tmp_path)
    cfg.set(max_step=6).input = Elsewhere.default_config().set(batch_size=8)
    assert "which begins at its start" in train(cfg, tmp_path, accept=True)


def test_another_version_of_a_plugin_is_refused_and_accepted_if_asked_to(
    cfg, tmp_path, monkeypatch
):
    train(cfg, tmp_path)
    kind = type(get_registry())
    now = {"axlearn-core": "9.9", "acme": "1.0"}
    monkeypatch.setattr(kind, "fingerprint", lambda self: now)
    cfg.max_step = 6
    with pytest.raises(UserError, match=r"axlearn-core: 0 -> 9\.9\n.*--accept-changes"):
        train(cfg, tmp_path)
    out = train(cfg, tmp_path, accept=True)
    assert "plugin changed: axlearn-core: 0 -> 9.9" in out
    assert "plugin changed: acme: None -> 1.0" in out
    del now["acme"]  # a plugin that is gone is told, and no reason to refuse
    assert "plugin changed: acme: 1.0 -> None" in train(cfg.set(max_step=8), tmp_path)
