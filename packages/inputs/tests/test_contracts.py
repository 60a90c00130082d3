"""Every registered data source, tokenizer and command under its contract."""

import shutil
from pathlib import Path

import pytest

from axlearn_core.testing.contracts import (
    CommandContract,
    DataSourceContract,
    TokenizerContract,
    check_coverage,
)
from axlearn_inputs import ByteTokenizer, PackedInput, PrepareSpec, SyntheticInput
from axlearn_inputs.corpora import moby_dick
from axlearn_inputs.tokenizers import SentencePieceTokenizer, SentencePieceTrainer


class TestPackedInput(DataSourceContract):
    @pytest.fixture(autouse=True)
    def prepared(self, letters, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        shutil.copytree(letters, "letters")

    def config(self):
        source = PrepareSpec(task="letters", seq_len=16)
        return PackedInput.Config(source=source, directory="letters", batch_size=4)

    def damage(self):
        (shard,) = Path("letters").glob("train-*")
        data = bytearray(shard.read_bytes())
        data[100] ^= 1
        shard.write_bytes(data)
        return f"{shard.name} is damaged"


class TestSyntheticInput(DataSourceContract):
    reads_files = False

    def config(self):
        return SyntheticInput.Config(vocab_size=11, seq_len=32, batch_size=4)


class TestByteTokenizer(TokenizerContract):
    def config(self):
        return ByteTokenizer.default_config()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a trained model."""
    folder = tmp_path_factory.mktemp("model")
    trainer = SentencePieceTrainer.Config(vocab_size=512).instantiate()
    trainer.train(moby_dick.documents("validation"), folder)
    return folder


class OfSubwords(TokenizerContract):
    @pytest.fixture(autouse=True)
    def trained(self, model, monkeypatch):
        monkeypatch.chdir(model)


class TestSentencePieceTokenizer(OfSubwords):
    def config(self):
        return SentencePieceTokenizer.Config(path="tokenizer.model")


class TestSentencePieceTrainer(OfSubwords):
    def config(self):
        return SentencePieceTrainer.Config(vocab_size=512)

    def tokenizer(self):
        return self.config().instantiate().load(Path())


class TestCommands(CommandContract):
    distribution = "axlearn-inputs"


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-inputs", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
