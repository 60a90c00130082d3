"""What mypy knows of configs."""

import re

import pytest
from mypy import api

PROGRAM = """
from axlearn_core.config import REQUIRED, ConfigOr, Configurable, config_for

class Norm(Configurable):
    class Config(Configurable.Config):
        eps: float = 1e-6
        dim: int = REQUIRED

    def __init__(self, config: Config):
        super().__init__(config)
        reveal_type(self.config)  # own config

class RMSNorm(Norm):
    class Config(Norm.Config):
        scale: float = 1.0

    def method(self) -> None:
        reveal_type(self.config)  # extended config
        reveal_type(self.config.eps)  # inherited field

class Plain(RMSNorm):
    def method(self) -> None:
        reveal_type(self.config)  # inherited config

def rate(step: int) -> float:
    return 0.1

reveal_type(RMSNorm.default_config())  # default config
reveal_type(Plain.default_config())  # default config of a plain subclass
reveal_type(RMSNorm.default_config().set(eps=1).clone())  # edited config
reveal_type(config_for(rate))  # node of a function
RMSNorm.Config(eps="x")  # wrong type
RMSNorm.Config(epss=1.0)  # unknown field
RMSNorm.default_config().eps = "x"  # wrong assignment
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, str]:
    """What mypy says about each commented line of the program."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.py").write_text(PROGRAM)
    options = ["--strict", f"--cache-dir={folder}", "--config-file="]
    output, _, _ = api.run([*options, str(folder / "program.py")])
    comments = {
        number: line.partition("  # ")[2] for number, line in enumerate(PROGRAM.splitlines(), 1)
    }
    said = re.findall(r"program\.py:(\d+): \w+: (.*)", output)
    return {comments[int(number)]: text for number, text in reversed(said)}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("own config", '"program.Norm.Config"'),
        ("extended config", '"program.RMSNorm.Config"'),
        ("inherited field", 'float"'),
        ("inherited config", '"program.RMSNorm.Config"'),
        ("default config", '"program.RMSNorm.Config"'),
        ("default config of a plain subclass", '"program.RMSNorm.Config"'),
        ("edited config", '"program.RMSNorm.Config"'),
        ("node of a function", "CallableConfig["),
        ("wrong type", 'has incompatible type "str"; expected "float"'),
        ("unknown field", 'Unexpected keyword argument "epss"'),
        ("wrong assignment", "Incompatible types in assignment"),
    ],
)
def test_mypy_knows_the(answers, line, answer):
    assert answer in answers[line]


def test_mypy_finds_nothing_else(answers):
    assert len(answers) == 11
