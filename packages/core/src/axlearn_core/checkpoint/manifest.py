"""The manifest: written last, it makes a checkpoint complete, and it tells whether it is intact."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_CHUNK = 1 << 22  # bytes read at once


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Records the size and checksum of every file below `folder`, and `facts`, atomically.

    The files reach the disk before the manifest does.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
    partial = folder / f"{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as out:
        json.dump({**facts, "files": files}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    partial.rename(folder / MANIFEST)
    _sync_folder(folder)


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
        files = read_manifest(folder)["files"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError):
        return f"{MANIFEST} cannot be read"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, expected {expected['bytes']}"
        if (found := _hash(path)) != expected["sha256"]:
            return f"{name} has the checksum {found[:12]}, expected {expected['sha256'][:12]}"
    return None


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
