"""Every registered component under its contract."""

import base64
from pathlib import Path

import pytest

from axlearn_core.testing.contracts import (
    CommandContract,
    ConfigContract,
    TokenizerContract,
    check_coverage,
)
from axlearn_huggingface.pretrained import Pretrained
from axlearn_huggingface.tokenizers import (
    BytePairTrainer,
    HuggingFaceTokenizer,
    TiktokenTokenizer,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a trained tokenizer, and the same as a file of ranks."""
    directory = tmp_path_factory.mktemp("tokenizer")
    trainer = BytePairTrainer.Config(vocab_size=280).instantiate()
    pieces = trainer.train(["Call me Ishmael."] * 4 + ["spaces in rows"], directory).pieces()[2:]
    lines = [f"{base64.b64encode(piece).decode()} {n}" for n, piece in enumerate(pieces)]
    (directory / "ranks.tiktoken").write_text("\n".join(lines))
    return directory


class OfFiles(TokenizerContract):
    @pytest.fixture(autouse=True)
    def trained(self, folder, monkeypatch):
        monkeypatch.chdir(folder)


class TestHuggingFaceTokenizer(OfFiles):
    def config(self):
        return HuggingFaceTokenizer.Config(path=".")


class TestBytePairTrainer(OfFiles):
    def config(self):
        return BytePairTrainer.Config(vocab_size=280)

    def tokenizer(self):
        return self.config().instantiate().load(Path())


class TestTiktokenTokenizer(OfFiles):
    def config(self):
        special = {"<|endoftext|>": 278}
        return TiktokenTokenizer.Config(path="ranks.tiktoken", special_tokens=special)


class TestPretrained(ConfigContract):
    def config(self):
        return Pretrained.default_config().set(max_length=64)


class TestCommands(CommandContract):
    distribution = "axlearn-huggingface"


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-huggingface", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
