"""Every registered data source, tokenizer and command under its contract."""

import json
import shutil
from pathlib import Path

import pytest

from axlearn_core.testing.contracts import (
    CommandContract,
    ConfigContract,
    DataSourceContract,
    TokenizerContract,
    check_coverage,
)
from axlearn_inputs import (
    BestFitPacker,
    ByteTokenizer,
    CharacterFilter,
    ConcatenatingPacker,
    Decontamination,
    DocumentInput,
    ExactDuplicates,
    HuggingFaceDataset,
    JsonLines,
    LengthFilter,
    MixtureInput,
    NearDuplicates,
    PackedInput,
    Parquet,
    PrepareSpec,
    RepetitionFilter,
    SeqioTask,
    SyntheticInput,
    TextFiles,
    TextLines,
)
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


class TestDocumentInput(DataSourceContract):
    @pytest.fixture(autouse=True)
    def written(self, texts, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        lines = [json.dumps({"text": text}) for text in texts["train"]]
        Path("train.jsonl").write_text("\n".join(lines))

    def config(self):
        return DocumentInput.Config(
            documents=JsonLines.Config(files=("{split}.jsonl",)),
            filters={"length": LengthFilter.Config(min_words=1)},
            tokenizer=ByteTokenizer.default_config(),
            seq_len=16,
            window=8,
            batch_size=4,
        )

    def damage(self):
        data = Path("train.jsonl").read_bytes().replace(b"}", b"", 1)
        Path("train.jsonl").write_bytes(data)
        return "train.jsonl line 1"


class TestMixtureInput(TestPackedInput):
    def config(self):
        packed = TestPackedInput.config(self)
        parts = {
            "letters": packed.set(num_epochs=1),
            "chain": SyntheticInput.Config(vocab_size=11, seq_len=16, batch_size=4),
        }
        weights = {"0": {"letters": 0.75, "chain": 0.25}, "2": {"letters": 1, "chain": 1}}
        return MixtureInput.Config(inputs=parts, weights=weights, exhausted="drop", batch_size=4)


class TestJsonLines(ConfigContract):
    def config(self):
        return JsonLines.Config(files=("*.jsonl",), field="body")


class TestTextLines(ConfigContract):
    def config(self):
        return TextLines.Config(files=("*.txt",))


class TestTextFiles(ConfigContract):
    def config(self):
        return TextFiles.Config(files=("*.txt",))


class TestParquet(ConfigContract):
    def config(self):
        return Parquet.Config(files=("*.parquet",), column="body")


class TestHuggingFaceDataset(ConfigContract):
    def config(self):
        return HuggingFaceDataset.Config(directory="saved")


class TestSeqioTask(ConfigContract):
    def config(self):
        return SeqioTask.Config(task="moby_dick")


class TestLengthFilter(ConfigContract):
    def config(self):
        return LengthFilter.Config(min_words=3)


class TestCharacterFilter(ConfigContract):
    def config(self):
        return CharacterFilter.default_config()


class TestRepetitionFilter(ConfigContract):
    def config(self):
        return RepetitionFilter.default_config()


class TestExactDuplicates(ConfigContract):
    def config(self):
        return ExactDuplicates.Config(capacity=16)


class TestNearDuplicates(ConfigContract):
    def config(self):
        return NearDuplicates.Config(capacity=16)


class TestDecontamination(ConfigContract):
    def config(self):
        return Decontamination.Config(evaluations=TextLines.Config(files=("*.txt",)))


class TestBestFitPacker(ConfigContract):
    def config(self):
        return BestFitPacker.Config(open_rows=3)


class TestConcatenatingPacker(ConfigContract):
    def config(self):
        return ConcatenatingPacker.default_config()


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
