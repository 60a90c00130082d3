"""seqio runs the tasks. Importing it takes 10 s, which the tests of this file share."""

import collections
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from axlearn_core.errors import UserError
from axlearn_inputs.cli import data
from axlearn_inputs.corpora import moby_dick
from axlearn_inputs.prepare import prepare
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.tokenizers import ByteTokenizer, SentencePieceTrainer

BYTES = ByteTokenizer.default_config().instantiate()


@pytest.fixture(scope="module")
def tasks():
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("axlearn_inputs.tasks")
    sys.path.pop(0)


def test_a_task_gives_its_documents_in_order_with_their_ids(tasks):
    found = list(tasks.read_task("moby_dick", "validation", BYTES))
    assert [document.text for document in found] == moby_dick.documents("validation")
    for document in found:
        np.testing.assert_array_equal(document.ids, BYTES.encode(document.text))


def test_a_mixture_of_a_users_module_mixes_by_its_rates(tasks):
    found = list(tasks.read_task("letter_tasks:three_to_one", "train", BYTES))
    counts = collections.Counter(document.text.isdigit() for document in found)
    # 100 letters last for about 33 digits; the spread is that of a binomial with p = 1/4.
    assert 15 < counts[True] < 55
    assert counts[False] == 100


def test_one_task_can_be_read_with_several_tokenizers(tasks, tmp_path):
    trainer = SentencePieceTrainer.Config(vocab_size=265).instantiate()
    subwords = trainer.train(["aaaa aaaa\n"] * 9, tmp_path)
    for tokenizer in (subwords, BYTES, subwords):
        for text, ids in tasks.read_task("letter_tasks:only_letters", "train", tokenizer):
            np.testing.assert_array_equal(ids, tokenizer.encode(text))


def test_a_module_of_the_working_directory_is_found(tasks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "words_task.py").write_text(
        "from axlearn_inputs.tasks import register_text_task\n"
        "register_text_task('words', {'train': ['a word']}.__getitem__, ['train'])\n"
    )
    (document,) = tasks.read_task("words_task:words", "train", BYTES)
    assert document.text == "a word"


@pytest.mark.parametrize(
    ("task", "split", "message"),
    [
        ("mobydick", "train", "no seqio task or mixture 'mobydick'. Did you mean 'moby_dick'"),
        ("moby_dick", "test", "no split 'test'; its splits: train, validation"),
        ("nowhere_to_be_found:task", "train", "No module named 'nowhere_to_be_found'"),
        ("letter_tasks:other_ids", "train", "does not use its feature's vocabulary"),
    ],
)
def test_a_task_that_cannot_be_read_is_explained(tasks, task, split, message):
    with pytest.raises(UserError, match=message):
        next(iter(tasks.read_task(task, split, BYTES)))


def test_preparing_a_task_twice_gives_the_same_bytes(tasks, tmp_path):
    spec = PrepareSpec(
        task="moby_dick", seq_len=128, tokenizer=SentencePieceTrainer.Config(vocab_size=512)
    )
    for name in "ab":
        prepare(spec, tmp_path / name, report=lambda line: None)
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"
    )
    assert one == other
    assert set(one) == {
        "manifest.json",
        "tokenizer.model",
        "train-00000-of-00001.array_record",
        "validation-00000-of-00001.array_record",
    }


def test_the_commands_prepare_and_inspect(tasks, tmp_path):
    directory = str(tmp_path / "out")
    words = ["letter_tasks:only_letters", "--seq-len", "4", "--dir", directory]
    prepared = CliRunner().invoke(data, ["prepare", *words], catch_exceptions=False)
    assert "train: 100 documents, 300 characters" in prepared.output
    assert f"next: axl data inspect {directory}" in prepared.output
    shown = CliRunner().invoke(data, ["inspect", directory, "--check"], catch_exceptions=False)
    assert "first row of train:\n  segment 1, 4 targets: 'aaaa'" in shown.output
    assert "all checksums are right" in shown.output
    listed = CliRunner().invoke(data, ["inspect", directory, "--json"], catch_exceptions=False)
    assert json.loads(listed.output)["splits"]["train"]["documents"] == 100
