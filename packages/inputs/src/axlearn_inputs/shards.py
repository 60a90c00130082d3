"""ArrayRecord files: written with checksums, read only after they have been checked."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

from array_record.python import array_record_module

from axlearn_inputs.manifest import PREPARE_AGAIN, PreparedDataError, Shard

_SHARD_BYTES = 128 << 20
# A group is what is read and decoded at once; one record a group makes random access cheap. Ids do
# not compress well enough to pay for it.
_WRITER_OPTIONS = "group_size:1,uncompressed"


def write_shards(directory: Path, split: str, records: Sequence[bytes]) -> tuple[Shard, ...]:
    """Writes `split-00000-of-00003.array_record` and so on, each at most about 128 MiB."""
    total = sum(len(record) for record in records)
    count = max(1, min(-(-total // _SHARD_BYTES), len(records)))
    bounds = [len(records) * i // count for i in range(count + 1)]
    return tuple(
        _write(directory / f"{split}-{i:05d}-of-{count:05d}.array_record", records[start:stop])
        for i, (start, stop) in enumerate(itertools.pairwise(bounds))
    )


def _write(path: Path, records: Sequence[bytes]) -> Shard:
    try:
        writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        for record in records:
            writer.write(record)
        writer.close()
    except RuntimeError as error:  # its word for a full disk
        raise OSError(str(error)) from error
    return Shard(path.name, len(records), path.stat().st_size, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardReader:
    """Random access to the records of one split, by grain's protocol for data sources.

    Sizes are checked at once; the checksum of a shard when its first record is asked for, so that
    a run over terabytes starts without reading all of them.

    Args:
        directory: of the files.
        shards: what they should be.
        whole: whether a shard must be as it was written for any of its records to be read. Each
            record has a checksum of its own besides.
    """

    def __init__(self, directory: Path, shards: Sequence[Shard], *, whole: bool = True):
        import grain  # imports jax; takes a second without it

        self._shards = [(directory / shard.file, shard) for shard in shards]
        for path, shard in self._shards:
            _check_size(path, shard)
        self._ends = list(itertools.accumulate(shard.records for shard in shards))
        self._unchecked = set(range(len(shards))) if whole else set()
        self._lock = threading.Lock()
        # With the number of records in the name, grain need not open every file to count them.
        names = [f"{path}[0:{shard.records}]" for path, shard in self._shards]
        self._source = grain.sources.ArrayRecordDataSource(names)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> bytes:
        return self.read([index])[0]

    def read(self, indices: Sequence[int]) -> Sequence[bytes]:
        """Returns the records at `indices`, in that order."""
        if self._unchecked:
            for index in indices:
                self._check(bisect.bisect_right(self._ends, index))
        # One by one is three times as fast as all at once, which starts threads for each call.
        return [self._source[index] for index in indices]

    def locate(self, index: int) -> tuple[Path, int]:
        """Returns the file of a record, and its number in there."""
        number = bisect.bisect_right(self._ends, index)
        return self._shards[number][0], index - (self._ends[number - 1] if number else 0)

    def check_all(self) -> None:
        """Checks every shard now."""
        for number in range(len(self._shards)):
            self._check(number)

    def _check(self, number: int) -> None:
        with self._lock:
            if number not in self._unchecked:
                return
            path, shard = self._shards[number]
            found = _sha256(path)
            if found != shard.sha256:
                raise _damaged(path, f"sha256 {shard.sha256}", found)
            self._unchecked.discard(number)


def _check_size(path: Path, shard: Shard) -> None:
    if not path.is_file():
        raise PreparedDataError(f"{path} is missing: the manifest lists it. {PREPARE_AGAIN}")
    found = path.stat().st_size
    if found != shard.bytes:
        raise _damaged(path, f"{shard.bytes} bytes", str(found))


def _damaged(path: Path, expected: str, found: str) -> PreparedDataError:
    return PreparedDataError(
        f"{path} is damaged: expected {expected}, found {found}. Restore the file from a copy. "
        f"Or: {PREPARE_AGAIN}"
    )
