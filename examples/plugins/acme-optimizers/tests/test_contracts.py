"""What every optimizer and every schedule keeps to, and that none is forgotten."""

from axlearn_core.testing.contracts import ScheduleContract, check_coverage
from axlearn_learners import Constant
from axlearn_learners.testing import OptaxOptimizerContract

from acme_optimizers import CautiousAdamW, SquareRootCooldown


class TestCautiousAdamW(OptaxOptimizerContract):
    def config(self):
        return CautiousAdamW.Config(learning_rate=0.01)


class TestSquareRootCooldown(ScheduleContract):
    def config(self):
        return SquareRootCooldown.Config(schedule=Constant.Config(value=0.5), total_steps=20)


def test_every_component_is_under_contract():
    check_coverage("acme-optimizers", globals().values())
