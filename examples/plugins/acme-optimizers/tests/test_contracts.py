"""What every optimizer and every schedule keeps to."""

from axlearn_core.testing.contracts import ConfigContract
from axlearn_learners import Constant

from acme_optimizers import CautiousAdamW, SquareRootCooldown


class TestCautiousAdamW(ConfigContract):
    def config(self):
        return CautiousAdamW.Config(learning_rate=0.01)


class TestSquareRootCooldown(ConfigContract):
    def config(self):
        return SquareRootCooldown.Config(schedule=Constant.Config(value=0.5), total_steps=20)
