"""`axl tokenizer train` with both packages: byte pairs, and data prepared with them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from axlearn_inputs.cli import data
from axlearn_inputs.manifest import load_manifest
from axlearn_inputs.tokenizer_cli import tokenizer


@pytest.fixture
def axl(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"text": "the whale, the sea and 1851 ships. " * 5})] * 9
    (tmp_path / "sea.jsonl").write_text("\n".join(lines))

    def axl(command, *words):
        done = CliRunner().invoke(command, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return axl


def test_a_trained_folder_is_the_tokenizer_of_prepared_data(axl):
    special = ("--special-token", "<|tool|>", "--chatml")
    output = axl(tokenizer, "train", "sea.jsonl", "--vocab-size", "275", "--out", "tok", *special)
    assert "wrote tok: 275 tokens" in output
    axl(data, "prepare", "sea.jsonl", "--tokenizer", "tok", "--seq-len", "32", "--dir", "there")
    manifest = load_manifest(Path("there"))
    assert manifest.tokenizer.vocab_size == 275
    assert manifest.prepared_from().tokenizer.path == "tok"
    assert "1851 ships" in axl(data, "inspect", "there")


def test_byte_pairs_are_trained_on_the_text_that_is_prepared(axl):
    words = ("--tokenizer", "bpe", "--vocab-size", "275", "--seq-len", "32", "--dir", "there")
    axl(data, "prepare", "sea.jsonl", *words)
    assert load_manifest(Path("there")).tokenizer.eos_id == 0
    assert "1851 ships" in axl(data, "inspect", "there", "--check")
