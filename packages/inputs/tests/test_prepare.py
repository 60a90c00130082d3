"""Preparation: same spec, same bytes; all or nothing; never over anything else."""

import json

import pytest

from axlearn_core.config import MissingFieldsError
from axlearn_core.errors import UserError
from axlearn_inputs import ConcatenatingPacker, ExactDuplicates, TextLines
from axlearn_inputs.manifest import PreparedDataError, load_manifest
from axlearn_inputs.prepare import prepare
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.tokenizers import SentencePieceTrainer


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_same_spec_gives_the_same_bytes(letters, prepare_letters):
    assert contents(prepare_letters()) == contents(letters)


def test_another_seed_gives_another_order_of_rows(letters, prepare_letters):
    other = contents(prepare_letters(spec={"seed": 1}))
    assert (
        other["train-00000-of-00001.array_record"]
        != contents(letters)["train-00000-of-00001.array_record"]
    )


def test_the_manifest_counts_documents_characters_bytes_and_targets(letters, texts):
    split = load_manifest(letters).splits["validation"]
    text = "".join(texts["validation"])
    assert (split.documents, split.characters) == (7, len(text))
    assert split.bytes == split.tokens == len(text.encode())
    assert split.targets == split.tokens + split.documents


def test_the_manifest_says_what_xz_makes_of_the_text(letters):
    assert set(load_manifest(letters).xz_nats_per_character) == {
        "train",
        "validation",
        "all",
        "validation given train",
    }


def test_preparing_again_does_nothing_and_says_so(prepare_letters, make_spec):
    directory = prepare_letters()
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    said: list[str] = []
    prepare(make_spec(), directory, report=said.append)
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before
    assert said == [f"{directory} is already prepared: nothing to do"]


def test_another_spec_is_refused_with_the_difference(prepare_letters):
    directory = prepare_letters()
    with pytest.raises(PreparedDataError, match=r"seq_len: 16 -> 8\n.*--overwrite"):
        prepare_letters(spec={"seq_len": 8})
    assert load_manifest(directory).seq_len == 16


def test_overwrite_replaces_prepared_data(prepare_letters):
    prepare_letters()
    directory = prepare_letters(spec={"seq_len": 8}, overwrite=True)
    assert load_manifest(directory).seq_len == 8


def test_files_that_are_no_prepared_data_are_never_removed(prepare_letters, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "thesis.tex").write_text("years of work")
    with pytest.raises(PreparedDataError, match="holds other files"):
        prepare_letters(overwrite=True)
    assert (tmp_path / "letters" / "thesis.tex").read_text() == "years of work"


def test_a_failure_leaves_nothing_behind(tmp_path, make_spec):
    def fail(task, split, tokenizer):
        raise UserError("no such task")

    with pytest.raises(UserError, match="no such task"):
        prepare(make_spec(), tmp_path / "out", report=lambda line: None, read=fail)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_split_is_an_error(tmp_path, make_spec):
    with pytest.raises(UserError, match="no documents in the split 'train'"):
        prepare(make_spec(), tmp_path / "out", report=lambda line: None, read=lambda *arguments: [])


def test_a_place_that_cannot_be_written_is_named(tmp_path, prepare_letters):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write prepared data to .*file/letters"):
        prepare_letters(tmp_path / "file" / "letters")


def test_all_missing_fields_are_told_at_once(tmp_path):
    with pytest.raises(MissingFieldsError, match=r"(?s)task.*seq_len"):
        prepare(PrepareSpec(), tmp_path / "out")


def test_a_trained_tokenizer_is_kept_beside_the_data(prepare_letters):
    trainer = SentencePieceTrainer.Config(vocab_size=300)
    directory = prepare_letters(spec={"tokenizer": trainer})
    manifest = load_manifest(directory)
    tokenizer = trainer.instantiate().load(directory)
    assert tokenizer.fingerprint() == manifest.tokenizer.fingerprint
    assert manifest.prepared_from().tokenizer == trainer


def test_a_manifest_of_another_format_is_refused(prepare_letters):
    directory = prepare_letters()
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(PreparedDataError, match="format 99, expected 1"):
        load_manifest(directory)


def test_files_are_prepared_through_filters_whose_counts_are_kept_and_shown(tmp_path):
    for split, texts in {
        "train": ["one", "two", "one"],
        "validation": ["two", "three", ""],
    }.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(texts))
    spec = PrepareSpec(
        task=TextLines.Config(files=(f"{tmp_path}/{{split}}.txt",)),
        filters={"same": ExactDuplicates.Config(capacity=16)},
        packer=ConcatenatingPacker.default_config(),
        seq_len=4,
    )
    said: list[str] = []
    manifest = prepare(spec, tmp_path / "out", report=said.append)
    assert manifest.splits["train"].dropped == {"same": 1}
    assert manifest.splits["validation"].dropped == {"same": 1}, "it is in train"
    assert manifest.splits["validation"].documents == 1
    assert said[0].endswith("in 2 rows of 4 (100.0% full); dropped 1 by same")
    assert load_manifest(tmp_path / "out").prepared_from() == spec
