"""Training data from prepared shards, in one global order for any number of processes.

    step s, row r  ->  place s * batch_size + r in the order of rows
    order of rows  =   a new shuffle of all records in each epoch

A batch is a function of its number. So a process reads only its own rows, and going on from a
checkpoint is setting the number: no replay, however long the run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from axlearn_core.config import REQUIRED
from axlearn_core.training.input import Batch, BatchIterator, BatchShape, Input
from axlearn_inputs.manifest import (
    Manifest,
    PreparedDataError,
    Split,
    format_differences,
    is_prepared,
    load_manifest,
)
from axlearn_inputs.records import Damaged, RecordReader
from axlearn_inputs.row_stream import PlacedRows
from axlearn_inputs.rows import batch_shape, empty_batch, fill_row
from axlearn_inputs.shards import ShardReader
from axlearn_inputs.spec import PrepareSpec, prepare_command
from axlearn_inputs.tokenizers import Tokenizer


class PackedInput(Input):
    """Reads one split of prepared data.

    With a limited number of epochs the last batch is filled up with rows of weight 0, so that each
    target counts exactly once per epoch.

    Raises:
        PreparedDataError: when it is built, if the data are missing or were prepared from another
            spec than `source`; when a shard is first read, if that is damaged.
    """

    class Config(Input.Config):
        source: PrepareSpec = REQUIRED  # how the data are made; they must have been made so
        directory: str = REQUIRED  # where `axl data prepare` wrote them
        split: str = "train"
        seed: int = 0  # of the order of rows, 0 to 2**32 - 1
        num_epochs: int | None = None  # None: without end
        # A damaged record ends the run; or its row is left empty and the iterator's state counts it
        # (with several processes: those of the first one's rows).
        damaged: Damaged = "stop"
        read_ahead: int = 2  # batches that are read at once, ahead of their use

    def __init__(self, config: Config):
        super().__init__(config)
        self._directory = Path(config.directory)
        self._manifest = _matching_manifest(self._directory, config.source)
        if config.split not in self._manifest.splits:
            raise PreparedDataError(
                f"{self._directory} has no split {config.split!r}; it has "
                f"{', '.join(self._manifest.splits)}"
            )

    @property
    def manifest(self) -> Manifest:
        """What is known about the prepared data."""
        return self._manifest

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        cfg = self.config
        import grain  # it imports jax

        rows = self.local_rows(process_index, process_count)
        order, records = self._order, self._records

        def batch(number: int) -> tuple[Batch, int]:
            start = number * cfg.batch_size
            places = range(start + rows.start, min(start + rows.stop, len(order)))
            result = empty_batch(len(rows), cfg.source.seq_len, self.pad_id)
            found = records.read([order[place] for place in places])
            for index, row in enumerate(found.rows):
                fill_row(result, index, row)
            return result, found.skipped

        # Past sys.maxsize no index reaches; ceiling division otherwise.
        count = sys.maxsize if cfg.num_epochs is None else -(-len(order) // cfg.batch_size)
        options = grain.ReadOptions(num_threads=cfg.read_ahead, prefetch_buffer_size=cfg.read_ahead)
        return _Batches(grain.MapDataset.range(count).map(batch).to_iter_dataset(options))

    @property
    def pad_id(self) -> int:
        """The id that fills rows."""
        return self._manifest.tokenizer.pad_id

    def row_stream(self) -> PlacedRows:
        """Returns a stream of the rows, for mixtures."""
        order, records = self._order, self._records
        count = None if self.config.num_epochs is None else len(order)
        return PlacedRows(
            lambda place: records.read([order[place]]).rows[0], count, self._split.records
        )

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        return {"epoch": state["next_index"] * self.config.batch_size / self._split.records}

    def batch_shape(self) -> BatchShape:
        return batch_shape(self.config.batch_size, self.config.source.seq_len)

    def describe(self) -> dict[str, Any]:
        cfg = self.config
        return {
            "split": cfg.split,
            "batch_size": cfg.batch_size,
            "seq_len": cfg.source.seq_len,
            "seed": cfg.seed,
            "tokenizer": self._manifest.tokenizer.fingerprint,
            "data": self._split.fingerprint(),
        }

    def tokenizer(self) -> Tokenizer:
        """Returns the tokenizer that the data were made with.

        Raises:
            PreparedDataError: if the one that is found has another fingerprint.
        """
        return load_tokenizer(self.config.source, self._directory, self._manifest)

    def characters_per_token(self) -> float:
        return self._split.characters_per_target

    def baselines(self) -> dict[str, float]:
        split, figures = self.config.split, self._manifest.xz_nats_per_character
        names = {split: "xz -9"} | {
            f"{split} given {other}": f"after {other}" for other in self._manifest.splits
        }
        return {shown: figures[name] for name, shown in names.items() if name in figures}

    @property
    def _split(self) -> Split:
        return self._manifest.splits[self.config.split]

    @cached_property
    def _order(self) -> Any:
        """The record at each place."""
        import grain  # it imports jax

        records = grain.MapDataset.range(self._split.records).seed(self.config.seed)
        return records.shuffle().repeat(self.config.num_epochs)

    @cached_property
    def _records(self) -> RecordReader:
        cfg = self.config
        shards = ShardReader(self._directory, self._split.shards, whole=cfg.damaged == "stop")
        vocab_size = self._manifest.tokenizer.vocab_size
        return RecordReader(
            shards, vocab_size=vocab_size, seq_len=cfg.source.seq_len, damaged=cfg.damaged
        )


def load_tokenizer(source: PrepareSpec, directory: Path, manifest: Manifest) -> Tokenizer:
    """Returns the tokenizer of prepared data, if its fingerprint is the manifest's."""
    built = source.tokenizer.instantiate()
    tokenizer = built if isinstance(built, Tokenizer) else cast(Tokenizer, built.load(directory))
    expected, found = manifest.tokenizer.fingerprint, tokenizer.fingerprint()
    if found != expected:
        raise PreparedDataError(
            f"the tokenizer is not the one that the data in {directory} were made with: expected "
            f"fingerprint {expected}, found {found}. Restore its file, or prepare the data again: "
            f"{prepare_command(source, str(directory))} --overwrite"
        )
    return tokenizer


def _matching_manifest(directory: Path, source: PrepareSpec) -> Manifest:
    command = prepare_command(source, str(directory))
    if not is_prepared(directory):
        raise PreparedDataError(
            f"there are no prepared data in {directory}. Prepare them:\n  {command}"
        )
    manifest = load_manifest(directory)
    if differences := manifest.differences(source):
        raise PreparedDataError(
            f"the data in {directory} were prepared from another spec than `source` (prepared -> "
            f"source):\n{format_differences(differences)}\n"
            f"Set source accordingly, or prepare the data again:\n  {command} --overwrite"
        )
    return manifest


class _Batches:
    """A grain iterator by our contract.

    Its state, {"next_index": n}, counts global batches, and "skipped_records" if there are some.
    """

    def __init__(self, dataset: Any):
        self._iterator = iter(dataset)
        self._skipped = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch, skipped = cast(tuple[Batch, int], next(self._iterator))
        self._skipped += skipped
        return batch

    def get_state(self) -> dict[str, Any]:
        counted = {"skipped_records": self._skipped} if self._skipped else {}
        return {**self._iterator.get_state(), **counted}

    def set_state(self, state: Mapping[str, Any]) -> None:
        place = dict(state)
        self._skipped = int(place.pop("skipped_records", 0))
        self._iterator.set_state(place)
