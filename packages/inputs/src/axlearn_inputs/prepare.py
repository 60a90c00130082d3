"""Runs a task once and writes what training reads: packed rows in shards, and a manifest.

The result appears under its name only when it is complete, and the same spec gives the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from axlearn_core.config import MissingFieldsError, missing
from axlearn_core.errors import UserError
from axlearn_inputs.compression import xz_nats_per_character
from axlearn_inputs.documents import Document, ReadTask, read_source
from axlearn_inputs.filters import FilterChain
from axlearn_inputs.manifest import (
    FILE,
    Manifest,
    PreparedDataError,
    Split,
    TokenizerSummary,
    format_differences,
    is_prepared,
    load_manifest,
    spec_as_json,
)
from axlearn_inputs.packers import Packer
from axlearn_inputs.rows import encode_row, id_dtype
from axlearn_inputs.shards import write_shards
from axlearn_inputs.spec import PrepareSpec, source_name
from axlearn_inputs.tokenizers import ByteTokenizer, Tokenizer

Report = Callable[[str], None]

_DISTRIBUTIONS = ("axlearn-inputs", "seqio", "tensorflow", "sentencepiece", "array-record", "numpy")


def prepare(
    spec: PrepareSpec,
    directory: Path | str,
    *,
    overwrite: bool = False,
    report: Report = print,
    read: ReadTask | None = None,
) -> Manifest:
    """Prepares `spec` in `directory`, or finds it there already.

    Args:
        spec: what to prepare.
        directory: appears when everything in it is complete.
        overwrite: replaces prepared data of another spec.
        report: is told what is being done, a line at a time.
        read: runs the task; by default seqio, which is imported only then.

    Raises:
        PreparedDataError: if the directory holds data of another spec (unless `overwrite`), or
            files that are no prepared data.
        UserError: if the task, its text or its tokenizer is not as expected, or for a full disk.
    """
    directory = Path(directory)
    if unset := missing(spec):
        raise MissingFieldsError(unset)
    spec_as_json(spec)  # what cannot be written down must fail before the work, not after it
    if is_prepared(directory) and not overwrite:
        manifest = load_manifest(directory)
        _require_same(manifest, spec, directory)
        report(f"{directory} is already prepared: nothing to do")
        return manifest
    partial = directory.with_name(directory.name + ".partial")
    try:
        _require_free(directory)
        shutil.rmtree(partial, ignore_errors=True)  # of a preparation that was stopped
        partial.mkdir(parents=True)
        manifest = _prepare_into(partial, spec, report, read)
        (partial / FILE).write_text(manifest.to_json(), "utf-8")
        if directory.exists():
            shutil.rmtree(directory)
        partial.rename(directory)
    except OSError as error:
        raise UserError(f"cannot write prepared data to {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _require_same(manifest: Manifest, spec: PrepareSpec, directory: Path) -> None:
    if differences := manifest.differences(spec):
        raise PreparedDataError(
            f"{directory} holds data prepared from another spec (prepared -> asked for):\n"
            f"{format_differences(differences)}\n"
            "Choose another directory, or add --overwrite to replace the data"
        )


def _require_free(directory: Path) -> None:
    if directory.exists() and not is_prepared(directory) and any(directory.iterdir()):
        raise PreparedDataError(
            f"{directory} exists and holds other files than prepared data; choose another directory"
        )


class _Read(Protocol):
    """Reads a split of what is being prepared."""

    def __call__(self, split: str, tokenizer: Tokenizer) -> Iterable[Document]: ...


def _reader(spec: PrepareSpec, report: Report, read: ReadTask | None) -> _Read:
    if not isinstance(spec.task, str):
        return functools.partial(read_source, spec.task.instantiate())
    return functools.partial(read or _seqio(report), spec.task)


def _seqio(report: Report) -> ReadTask:
    report("importing seqio and tensorflow (about 10 s)")
    with _silent_stderr():
        from axlearn_inputs.tasks import read_task
    return read_task


def _filters(spec: PrepareSpec) -> FilterChain:
    return FilterChain({name: part.instantiate() for name, part in spec.filters.items()})


def _prepare_into(
    directory: Path, spec: PrepareSpec, report: Report, read_task: ReadTask | None
) -> Manifest:
    read = _reader(spec, report, read_task)
    tokenizer = _tokenizer(spec, directory, report, read)
    texts: dict[str, str] = {}
    splits: dict[str, Split] = {}
    filters = _filters(spec)  # of all splits together: a later one has no duplicates of an earlier
    for split in spec.splits:
        prepared = _prepare_split(directory, spec, split, tokenizer, read, filters)
        splits[split], texts[split] = prepared
        report(_summary(split, splits[split], spec.seq_len))
    report("compressing the text with xz -9, for comparison")
    return Manifest(
        spec=spec_as_json(spec),
        seq_len=spec.seq_len,
        tokenizer=summarize_tokenizer(tokenizer),
        splits=splits,
        xz_nats_per_character=xz_nats_per_character(texts),
        versions={name: importlib.metadata.version(name) for name in _DISTRIBUTIONS},
    )


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keeps what C++ libraries say while they are imported (devices they lack) from the terminal.

    They write to the file descriptor, so replacing sys.stderr would not do.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _tokenizer(spec: PrepareSpec, directory: Path, report: Report, read: _Read) -> Tokenizer:
    built = spec.tokenizer.instantiate()
    if isinstance(built, Tokenizer):
        return built
    report(f"training the tokenizer on the split {spec.splits[0]} of {source_name(spec)}")
    as_bytes = ByteTokenizer.default_config().instantiate()
    documents, filters = read(spec.splits[0], as_bytes), _filters(spec)
    texts = (document.text for document in documents if filters.keeps(document.text))
    trained: Tokenizer = built.train(texts, directory)
    return trained


def summarize_tokenizer(tokenizer: Tokenizer) -> TokenizerSummary:
    """Returns what a manifest says of a tokenizer."""
    return TokenizerSummary(
        vocab_size=tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        fingerprint=tokenizer.fingerprint(),
    )


def _prepare_split(
    directory: Path,
    spec: PrepareSpec,
    split: str,
    tokenizer: Tokenizer,
    read: _Read,
    filters: FilterChain,
) -> tuple[Split, str]:
    texts: list[str] = []
    tokens = 0
    dropped_before = dict(filters.dropped)

    def documents() -> Iterator[NDArray[Any]]:
        nonlocal tokens
        for text, ids in read(split, tokenizer):
            if not filters.keeps(text):
                continue
            texts.append(text)
            tokens += len(ids)
            yield tokenizer.as_document(ids)

    dtype = id_dtype(tokenizer.vocab_size)
    packer: Packer = spec.packer.instantiate()
    records = [encode_row(row, dtype) for row in packer.pack(documents(), spec.seq_len)]
    dropped = {name: count - dropped_before[name] for name, count in filters.dropped.items()}
    if not records:
        raise UserError(
            f"{source_name(spec)}: no documents in the split {split!r}{_shown(dropped)}"
        )
    random.Random(f"{spec.seed}/{split}").shuffle(records)
    text = "".join(texts)
    prepared = Split(
        shards=write_shards(directory, split, records),
        documents=len(texts),
        characters=len(text),
        bytes=len(text.encode()),
        tokens=tokens,
        targets=tokens + len(texts),
        records=len(records),
        dropped=dropped,
    )
    return prepared, text


def _summary(name: str, split: Split, seq_len: int) -> str:
    return (
        f"{name}: {split.documents:,} documents, {split.characters:,} characters -> "
        f"{split.tokens:,} tokens in {split.records:,} rows of {seq_len:,} "
        f"({split.fullness(seq_len):.1%} full){_shown(split.dropped)}"
    )


def _shown(dropped: Mapping[str, int]) -> str:
    counts = ", ".join(f"{count:,} by {name}" for name, count in dropped.items())
    return f"; dropped {counts}" if counts else ""
