"""The manifest: written last, it makes a checkpoint complete, and it tells whether it is intact.

It holds the size and the SHA-256 of every file, and which part of which array a file is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from axlearn_core.checkpoint.arrays import (
    STATE,
    ArrayInfo,
    arrays_from_json,
    arrays_to_json,
    find_arrays,
    shard_name,
)

MANIFEST = "manifest.json"
_CHUNK = 1 << 22  # bytes read at once
_READERS = 4  # threads; hashing and reading both leave the interpreter to others
_UNREADABLE = f"{MANIFEST} cannot be read"


class FileFact(NamedTuple):
    """What a file is expected to be."""

    bytes: int
    sha256: str


class Manifest(NamedTuple):
    """What a complete checkpoint holds.

    Attributes:
        step: of the checkpoint.
        files: by path in its folder.
        arrays: by name. Empty if an older version wrote it, which kept arrays otherwise.
    """

    step: int
    files: dict[str, FileFact]
    arrays: dict[str, ArrayInfo]


def write_manifest(folder: Path, step: int) -> None:
    """Records every file below `folder` and every array, atomically.

    The files, and the folders' lists of them, reach the disk before the manifest does.
    """
    paths = sorted(folder.rglob("*"))
    for path in paths:
        _sync(path)
    files = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    with ThreadPoolExecutor(_READERS) as readers:
        hashes = dict(zip(files, readers.map(_hash, files.values()), strict=True))
    facts = {name: FileFact(files[name].stat().st_size, hashes[name])._asdict() for name in files}
    arrays = arrays_to_json(find_arrays(folder))
    partial = folder / f"{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as out:
        json.dump({"step": step, "files": facts, "arrays": arrays}, out)
        out.flush()
        os.fsync(out.fileno())
    partial.rename(folder / MANIFEST)
    _sync(folder)
    _sync(folder.parent)


def parse_manifest(text: str) -> Manifest:
    """Reads a manifest.

    Raises:
        ValueError: if it is none, or names a file outside of its folder.
    """
    try:
        data = json.loads(text)
        files = {
            str(name): FileFact(int(fact["bytes"]), str(fact["sha256"]))
            for name, fact in data["files"].items()
        }
        manifest = Manifest(int(data["step"]), files, arrays_from_json(data.get("arrays", {})))
    except (KeyError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        raise ValueError(_UNREADABLE) from error
    shards = {shard for info in manifest.arrays.values() for shard in info.shards}
    for name in files.keys() | shards:
        if not _is_inside(name):
            raise ValueError(f"{MANIFEST} names {name!r}, which is not in this folder")
    return manifest


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and not {"..", "\0"} & {*path.parts, *name}


def read_manifest(folder: Path) -> Manifest:
    """Returns the manifest of a complete checkpoint.

    Raises:
        OSError, ValueError: if it cannot be read.
    """
    return parse_manifest((folder / MANIFEST).read_text(encoding="utf-8"))


def is_complete(folder: Path) -> bool:
    """Whether the save that made this folder came to its end."""
    return (folder / MANIFEST).is_file()


def damage(folder: Path) -> str | None:
    """Returns what is wrong with a complete checkpoint, naming the file and array, or None."""
    return next(problems(folder), None)


def problems(folder: Path) -> Iterator[str]:
    """Yields all that is wrong with a complete checkpoint. Reads every byte of it."""
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError) as error:
        yield str(error) if str(error).startswith(MANIFEST) else _UNREADABLE
        return
    named = folder.name.partition(".")[0]
    if named.isdigit() and int(named) != manifest.step:
        yield f"{MANIFEST} is that of step {manifest.step}"
    yield from _foreign(folder, manifest)
    shards = _shards(manifest)
    for shard in shards.keys() - manifest.files.keys():
        yield f"{shards[shard]} was never written"

    def check(name: str) -> str | None:
        problem = _damage(folder / name, manifest.files[name])
        where = f"{name} ({shards[name]})" if name in shards else name
        return f"{where} {problem}" if problem else None

    with ThreadPoolExecutor(_READERS) as readers:
        yield from filter(None, readers.map(check, manifest.files))


def _foreign(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Files among the arrays could make an array of another one."""
    for path in sorted((folder / STATE).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in manifest.files and not path.is_dir():
            yield f"{name} does not belong to this checkpoint: {MANIFEST} does not name it"


def _shards(manifest: Manifest) -> Mapping[str, str]:
    """Names the part of an array that each file holds."""
    return {
        file: shard_name(name, ranges)
        for name, info in manifest.arrays.items()
        for file, ranges in info.shards.items()
    }


def _damage(path: Path, expected: FileFact) -> str | None:
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != expected.bytes:
        return f"has {path.stat().st_size} bytes, expected {expected.bytes}"
    try:
        found = _hash(path)
    except OSError as error:  # a disk that fails
        return f"cannot be read: {error.strerror}"
    if found != expected.sha256:
        return f"has the checksum {found[:12]}, expected {expected.sha256[:12]}"
    return None


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
