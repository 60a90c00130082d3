"""The contract of experiments."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import jax

from axlearn_core.config import from_json, to_json, to_text
from axlearn_core.module import ParameterSpec, map_specs
from axlearn_core.plugins import Registered, get_registry
from axlearn_core.testing.contracts.component import DistributionContract
from axlearn_core.training.state import initial_state, split_trainable
from axlearn_core.training.trainer import Trainer, learner_of


class ExperimentContract(DistributionContract):
    """Every experiment of a distribution gives a config that can be written, read and built.

    Nothing is allocated and no data are read, so that the size of a model does not matter.
    """

    kind: ClassVar[str] = "experiment"

    def test_each_call_gives_a_trainers_config_of_its_own(self, component: Registered) -> None:
        experiment = component.load()
        first = experiment()
        assert isinstance(first, Trainer.Config), f"{component.record.target} gives {first!r}"
        before = to_text(first)
        first.set(max_step=first.max_step + 1)
        assert to_text(experiment()) == before

    def test_json_restores_the_config(self, component: Registered) -> None:
        cfg, registry = component.load()(), get_registry()
        written = to_json(cfg, registry)
        restored = from_json(written, Trainer.Config, registry)
        assert to_text(restored) == to_text(cfg)
        assert to_json(restored, registry) == written

    def test_its_train_state_is_as_declared(self, component: Registered) -> None:
        cfg = component.load()()
        model = cfg.model.instantiate(name="model")
        specs = model.parameter_specs()
        trainable, _ = split_trainable(specs, specs)
        learner = learner_of(cfg, specs)
        state = jax.eval_shape(partial(initial_state, model, learner, 0))
        assert state.params == map_specs(ParameterSpec.struct, trainable)
