"""Sources: every document once, from any position on; and what cannot be read is named."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from axlearn_core.config import BuildError
from axlearn_core.errors import UserError
from axlearn_inputs import (
    DocumentError,
    HuggingFaceDataset,
    JsonLines,
    SeqioTask,
    TextFiles,
    TextLines,
)

sys.path.insert(0, str(Path(__file__).parent))
forms = importlib.import_module("document_forms")
sys.path.pop(0)


@pytest.fixture(params=forms.FORMS)
def source(request, tmp_path):
    return forms.FORMS[request.param](tmp_path).instantiate()


def test_it_reads_every_document_in_order_and_goes_on_behind_any_of_them(source):
    found = list(source.read("train"))
    assert [text for text, _ in found] == forms.DOCUMENTS
    for number, (_, after) in enumerate(found, start=1):
        rest = source.read("train", json.loads(json.dumps(after)))
        assert [text for text, _ in rest] == forms.DOCUMENTS[number:]


def test_its_description_is_small_json_and_tells_other_data_apart(source, tmp_path):
    described = source.describe("train")
    assert source.describe("train") == described
    assert len(json.dumps(described)) < 200


def test_files_that_grow_have_another_description(tmp_path):
    source = forms.as_json(tmp_path).instantiate()
    before = source.describe("train")
    (tmp_path / "b.jsonl").write_text('{"text": "more"}\n')
    assert source.describe("train") != before


def test_the_name_of_a_split_chooses_its_files(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}-0.txt").write_text(f"for {split}")
    source = TextFiles.Config(files=(f"{tmp_path}/{{split}}-*.txt",)).instantiate()
    assert [text for text, _ in source.read("test")] == ["for test"]


def read(config):
    return list(config.instantiate().read("train"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("3", "expected an object of JSON, found a int"),
        ('{"body": "x"}', "no field 'text', which field= of the source chooses; the fields are 'b"),
        ('{"text": null}', "field 'text' is no text but a NoneType"),
        (b"\xff\n", "'utf-8' codec can't decode"),
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path, line, said):
    path = tmp_path / "x.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b'{"text": "one"}\n\n' + line)
    with pytest.raises(DocumentError, match=rf"x\.jsonl line 3: .*{re.escape(said)}"):
        read(JsonLines.Config(files=(str(path),)))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_compressed_file_is_named(tmp_path, suffix):
    forms.as_json(tmp_path, suffix)
    path = tmp_path / f"b.jsonl{suffix}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DocumentError, match=re.escape(f"b.jsonl{suffix}")):
        read(JsonLines.Config(files=(f"{tmp_path}/*.jsonl{suffix}",)))


@pytest.mark.parametrize(("suffix", "said"), [(".gz", "ended before"), (".zst", "Truncated")])
def test_a_compressed_file_that_was_cut_off_is_named(tmp_path, suffix, said):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(forms.COMPRESS[suffix](b"a line of text\n" * 1000)[:-10])
    with pytest.raises(DocumentError, match=rf"x\{suffix} .*{said}"):
        read(TextLines.Config(files=(str(path),)))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_may_be_several_joined(tmp_path, suffix):
    compress = forms.COMPRESS[suffix]
    (tmp_path / f"x{suffix}").write_bytes(compress(b"one\n") + compress(b"two\n"))
    found = read(TextLines.Config(files=(f"{tmp_path}/x{suffix}",)))
    assert [text for text, _ in found] == ["one", "two"]


def test_a_file_that_is_no_parquet_and_a_wrong_column_are_named(tmp_path):
    config = forms.as_parquet(tmp_path)
    with pytest.raises(DocumentError, match=r"a\.parquet has no column 'body'.* are 'text', 'n'"):
        read(config.clone(column="body"))
    with pytest.raises(DocumentError, match=r"a\.parquet record 1: column 'n' holds no text but 1"):
        read(config.clone(column="n"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DocumentError, match=r"b\.parquet cannot be read as Parquet"):
        read(config)


def test_a_dataset_that_is_missing_or_lacks_a_column_or_split_is_named(tmp_path):
    config = forms.as_dataset(tmp_path)
    with pytest.raises(DocumentError, match=r"no column 'body'.* the columns are 'text'"):
        read(config.clone(column="body"))
    with pytest.raises(DocumentError, match="no split 'test'; it has 'train'"):
        list(config.instantiate().read("test"))
    with pytest.raises(DocumentError, match="holds no saved dataset"):
        read(HuggingFaceDataset.Config(directory=str(tmp_path / "none")))


def test_text_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff")
    with pytest.raises(DocumentError, match=r"x\.txt is not UTF-8"):
        read(TextFiles.Config(files=(f"{tmp_path}/x.txt",)))


def test_patterns_without_files_are_refused(tmp_path):
    with pytest.raises(DocumentError, match=r"no file matches '.*/\*\.txt', of the split 'train'"):
        read(TextFiles.Config(files=(f"{tmp_path}/*.txt",)))
    with pytest.raises(BuildError, match="files is empty"):
        TextFiles.Config(files=()).instantiate()


def test_a_library_that_is_missing_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    config = forms.as_parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"need pyarrow.*pip install 'axlearn-inputs\[parquet\]'"):
        read(config)


def test_a_seqio_task_goes_on_behind_any_document(monkeypatch):
    texts = ["one", "two", "three"]
    documents = importlib.import_module("axlearn_inputs.documents")
    fake = type(sys)("axlearn_inputs.tasks")
    fake.read_task = lambda task, split, tokenizer: (
        documents.Document(text, tokenizer.encode(text)) for text in texts
    )
    monkeypatch.setitem(sys.modules, "axlearn_inputs.tasks", fake)
    source = SeqioTask.Config(task="any").instantiate()
    found = list(source.read("train"))
    assert [text for text, _ in found] == texts
    assert [text for text, _ in source.read("train", found[0].after)] == texts[1:]


def test_parquet_reads_no_row_group_before_its_position(tmp_path, monkeypatch):
    import pyarrow.parquet

    source = forms.as_parquet(tmp_path).instantiate()
    asked = []
    original = pyarrow.parquet.ParquetFile.iter_batches

    def spy(self, *arguments, row_groups, **options):
        asked.append(row_groups)
        return original(self, *arguments, row_groups=row_groups, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", spy)
    list(source.read("train", {"file": 0, "record": 9}))
    assert asked == [[2, 3], [0, 1]]
