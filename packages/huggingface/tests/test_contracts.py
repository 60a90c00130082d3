"""Every component of this package under its contract."""

from axlearn_core.testing.contracts import CommandContract, ConfigContract, check_coverage
from axlearn_huggingface.pretrained import Pretrained


class TestPretrained(ConfigContract):
    def config(self):
        return Pretrained.default_config().set(max_length=64)


class TestCommands(CommandContract):
    distribution = "axlearn-huggingface"


def test_every_component_is_under_contract():
    check_coverage("axlearn-huggingface", globals().values())
