"""The same documents in each of the forms that sources read."""

import gzip
import json
from pathlib import Path

import pyarrow

from axlearn_inputs import HuggingFaceDataset, JsonLines, Parquet, TextFiles, TextLines

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True),
}
DOCUMENTS = [f"document {i}: {'wörd ' * (i % 7)}".strip() for i in range(23)]


def write_lines(folder: Path, lines: list[str], suffix: str = "") -> None:
    """Writes lines into two files, of which the first has 10."""
    for name, part in (("a", lines[:10]), ("b", lines[10:])):
        data = "".join(line + "\n" for line in part).encode()
        (folder / f"{name}.jsonl{suffix}").write_bytes(COMPRESS[suffix](data))


def as_json(folder: Path, suffix: str = "") -> JsonLines.Config:
    write_lines(folder, [json.dumps({"text": text, "n": 1}) for text in DOCUMENTS], suffix)
    return JsonLines.Config(files=(f"{folder}/*.jsonl{suffix}",))


def as_lines(folder: Path) -> TextLines.Config:
    write_lines(folder, DOCUMENTS)
    return TextLines.Config(files=(f"{folder}/*.jsonl",))


def as_files(folder: Path) -> TextFiles.Config:
    for number, text in enumerate(DOCUMENTS):
        (folder / f"{number:03}.txt").write_text(text, "utf-8")
    return TextFiles.Config(files=(f"{folder}/*.txt",))


def as_parquet(folder: Path) -> Parquet.Config:
    import pyarrow.parquet

    for name, part in (("a", DOCUMENTS[:15]), ("b", DOCUMENTS[15:])):
        table = pyarrow.table({"text": part, "n": [1] * len(part)})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet", row_group_size=4)
    return Parquet.Config(files=(f"{folder}/*.parquet",))


def as_dataset(folder: Path) -> HuggingFaceDataset.Config:
    import datasets

    found = datasets.Dataset.from_dict({"text": DOCUMENTS})
    datasets.DatasetDict({"train": found}).save_to_disk(str(folder / "saved"))
    return HuggingFaceDataset.Config(directory=str(folder / "saved"))


FORMS = {
    "jsonl": as_json,
    "jsonl.gz": lambda folder: as_json(folder, ".gz"),
    "jsonl.zst": lambda folder: as_json(folder, ".zst"),
    "lines": as_lines,
    "files": as_files,
    "parquet": as_parquet,
    "dataset": as_dataset,
}
