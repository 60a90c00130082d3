"""The manifest: written last, it makes a checkpoint complete, and it tells whether it is intact."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"
_CHUNK = 1 << 22  # bytes read at once


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Records the size and checksum of every file below `folder`, and `facts`, atomically.

    The files, and the folders' lists of them, reach the disk before the manifest does.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        _sync(path)
        if path.is_file():
            name = str(path.relative_to(folder))
            files[name] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
    partial = folder / f"{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as out:
        json.dump({**facts, "files": files}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    partial.rename(folder / MANIFEST)
    _sync(folder)
    _sync(folder.parent)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of a complete checkpoint."""
    facts: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return facts


def is_complete(folder: Path) -> bool:
    """Whether the save that made this folder came to its end."""
    return (folder / MANIFEST).is_file()


def damage(folder: Path) -> str | None:
    """Returns what is wrong with a complete checkpoint, naming the file, or None."""
    try:
        files = {
            str(name): {"bytes": int(fact["bytes"]), "sha256": str(fact["sha256"])}
            for name, fact in read_manifest(folder)["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return f"{MANIFEST} cannot be read"
    except RecursionError:
        return f"{MANIFEST} cannot be read: it is nested too deep"
    if outside := [name for name in files if not is_inside(name)]:
        return f"{MANIFEST} names {outside[0]!r}, which is not in this folder"
    problems = (_damage(folder, name, expected) for name, expected in files.items())
    return next((problem for problem in problems if problem), None)


def is_inside(name: str) -> bool:
    """Whether a file's name in a manifest stays in the manifest's folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and not {"..", "\0"} & {*path.parts, *name}


def _damage(folder: Path, name: str, expected: Mapping[str, Any]) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != expected["bytes"]:
        return f"{name} has {path.stat().st_size} bytes, expected {expected['bytes']}"
    try:
        found = _hash(path)
    except OSError as error:  # a disk that fails
        return f"{name} cannot be read: {error.strerror}"
    if found != expected["sha256"]:
        return f"{name} has the checksum {found[:12]}, expected {expected['sha256'][:12]}"
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
