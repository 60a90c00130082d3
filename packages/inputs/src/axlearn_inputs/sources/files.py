"""Documents in files: which files, and how far they are read."""

from __future__ import annotations

import abc
import glob
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_inputs.sources.source import DocumentError, DocumentSource, Found, Position


class FileSource(DocumentSource):
    """Documents of files, one file after another in the order of their names.

    A position is `{"file": number, ...}`, and what `read_file` says of the place in that file.
    """

    class Config(DocumentSource.Config):
        files: tuple[str, ...] = REQUIRED  # paths or patterns; {split} stands for the split's name

    def __init__(self, config: Config):
        super().__init__(config)
        if not config.files:
            raise ConfigError("files is empty: write at least one path or pattern")

    @abc.abstractmethod
    def read_file(self, path: Path, after: Position) -> Iterator[Found]:
        """Yields the documents of a file behind `after`, which is {} at its beginning."""

    def read(self, split: str, after: Position | None = None) -> Iterator[Found]:
        place = dict(after or {"file": 0})
        first = place.pop("file")
        paths = self.paths(split)
        for number, path in enumerate(paths[first:], start=first):
            try:
                for text, behind in self.read_file(path, place):
                    yield Found(text, {"file": number, **behind})
            except DocumentError as error:
                if error.after is not None:
                    error.after = {"file": number, **error.after}
                raise
            except OSError as error:
                raise DocumentError(f"{path} cannot be read: {error}") from error
            place = {}

    def paths(self, split: str) -> list[Path]:
        """Returns the files of a split, sorted by their paths.

        Raises:
            DocumentError: if a path or pattern stands for no file.
        """
        found: set[str] = set()
        for pattern in self.config.files:
            pattern = pattern.replace("{split}", split)
            # A path that exists is itself, whatever characters it has.
            files = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)
            files = [file for file in files if Path(file).is_file()]
            if not files:
                raise DocumentError(f"no file matches {pattern!r}, of the split {split!r}")
            found.update(files)
        return [Path(file) for file in sorted(found)]

    def describe(self, split: str) -> dict[str, Any]:
        """Tells files by their names and sizes, so that a copy in another folder is the same."""
        files = {str(path.name): path.stat().st_size for path in self.paths(split)}
        return {
            "files": len(files),
            "bytes": sum(files.values()),
            "names_and_sizes": _fingerprint(files),
        }


def _fingerprint(files: Mapping[str, int]) -> str:
    listed = "".join(f"{name}\0{size}\n" for name, size in files.items())
    return hashlib.sha256(listed.encode()).hexdigest()
