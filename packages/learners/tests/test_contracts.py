"""Every registered optimizer, schedule and learner under its contract."""

import jax
import pytest

import axlearn_learners as learners
from axlearn_core.module import ParameterSpec, ones
from axlearn_core.testing.contracts import LearnerContract, ScheduleContract, check_coverage
from axlearn_core.testing.contracts.learner import SPECS, built
from axlearn_learners import ParameterGroup
from axlearn_learners.testing import OptaxOptimizerContract


class OfOptimizer(OptaxOptimizerContract):
    """What this package promises of its optimizers besides."""

    numbers: float  # of state per parameter of a stack of matrices; docs/learners.md has the same

    def converging_config(self):
        cfg = super().converging_config()
        cfg.optimizer.weight_decay = 0.0  # it would pull away from the lowest point
        return cfg

    def test_memory_is_as_stated(self):
        specs = {"weight": ParameterSpec((256, 128), ("embed", "mlp"), ones).stacked(2, "layers")}
        numbers = sum(x.size for x in jax.tree.leaves(self.structs(specs)))
        assert numbers / (2 * 256 * 128) == pytest.approx(self.numbers, abs=2e-4)  # a few counts

    def test_some_state_is_shaped_like_a_parameter(self):
        shapes = {spec.shape for spec in jax.tree.leaves(SPECS)}
        assert any(leaf.shape in shapes for leaf in jax.tree.leaves(self.structs()))

    def test_frozen_parameters_have_no_state(self):
        frozen = {"ice": ParameterGroup(path="(table|stack)/.*", frozen=True)}
        rest = {key: SPECS[key] for key in ("norm", "head")}
        learner = built(self.learner_config().set(groups=frozen))
        params = jax.tree.map(ParameterSpec.struct, SPECS)
        assert jax.eval_shape(learner.init, params) == self.structs(rest)
        assert learner.state_axes() == self.learner(rest).state_axes()


class TestAdamW(OfOptimizer):
    numbers = 2

    def config(self):
        return learners.AdamW.Config(learning_rate=1e-2)


class TestDecoupledAdamW(OfOptimizer):
    numbers = 2

    def config(self):
        return learners.DecoupledAdamW.Config(learning_rate=1e-2)


class TestAdaStar(OfOptimizer):
    numbers = 2

    def config(self):
        return learners.AdaStar.Config(learning_rate=1e-2)


class TestSGD(OfOptimizer):
    numbers = 1

    def config(self):
        return learners.SGD.Config(learning_rate=1e-2)


class TestLion(OfOptimizer):
    numbers = 1

    def config(self):
        return learners.Lion.Config(learning_rate=1e-2)


class TestAdEMAMix(OfOptimizer):
    numbers = 3

    def config(self):
        # The default, a mean over 10000 steps, does not fit into the test's 300.
        return learners.AdEMAMix.Config(learning_rate=1e-2, b3=0.99)


class TestADOPT(OfOptimizer):
    numbers = 2

    def config(self):
        return learners.ADOPT.Config(learning_rate=1e-2)


class TestLAMB(OfOptimizer):
    numbers = 2

    def config(self):
        return learners.LAMB.Config(learning_rate=1e-2)


class TestAdafactor(OfOptimizer):
    numbers = (256 + 128) / (256 * 128)

    def config(self):
        return learners.Adafactor.Config(learning_rate=1e-2, min_dim_to_factor=2)


class TestMuon(OfOptimizer):
    numbers = 1

    def config(self):
        return learners.Muon.Config(learning_rate=1e-2)


class TestScheduleFreeAdamW(OfOptimizer):
    numbers = 2

    def config(self):
        return learners.ScheduleFreeAdamW.Config(learning_rate=1e-2)


# Learners.


def sgd(**fields):
    optimizer = learners.SGD.Config(learning_rate=0.05, momentum=0.5, weight_decay=0.0)
    return learners.OptaxLearner.Config(optimizer=optimizer, **fields)


class TestOptaxLearner(LearnerContract):
    def config(self):
        groups = {"matrices": ParameterGroup(axis="mlp", rate_scale=2.0)}
        return sgd(clip_norm=100.0, groups=groups)


class TestAverageWeights(LearnerContract):
    def config(self):
        return learners.AverageWeights.Config(learner=sgd(), decay=0.9)


class TestSkipSteps(LearnerContract):
    def config(self):
        return learners.SkipSteps.Config(learner=sgd(), max_norm=1000.0)


# Schedules.

RISE = {"peak": 1e-2, "warmup": 0.2, "total_steps": 20}


class TestConstant(ScheduleContract):
    def config(self):
        return learners.Constant.Config(value=1e-2)


class TestWarmupCosine(ScheduleContract):
    def config(self):
        return learners.WarmupCosine.Config(**RISE)


class TestWarmupLinear(ScheduleContract):
    def config(self):
        return learners.WarmupLinear.Config(**RISE)


class TestWarmupStableDecay(ScheduleContract):
    def config(self):
        return learners.WarmupStableDecay.Config(decay=0.5, **RISE)


class TestInverseSquareRoot(ScheduleContract):
    def config(self):
        return learners.InverseSquareRoot.Config(**RISE)


class TestPiecewise(ScheduleContract):
    def config(self):
        return learners.Piecewise.Config(steps=[0, 5, 20], rates=[0.0, 1.0, 0.1], total_steps=20)


class TestPhases(ScheduleContract):
    def config(self):
        phases = {
            "first": learners.Phase(schedule=learners.Constant.Config(value=1.0), steps=5),
            "then": learners.Phase(schedule=learners.WarmupLinear.Config(peak=0.5)),
        }
        return learners.Phases.Config(phases=phases, total_steps=20)


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-learners", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
