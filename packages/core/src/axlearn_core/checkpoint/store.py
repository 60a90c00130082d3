"""Checkpoints in an object store, as they are on a disk: a second copy, for when the disk is lost.

A checkpoint is written to the run's directory first and copied from there, file by file, its
manifest last. So neither the step nor the host's memory waits for a network, and the store holds no
half that looks whole. tensorstore speaks with the stores.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axlearn_core.checkpoint.catalog import step_folder
from axlearn_core.checkpoint.manifest import MANIFEST, Manifest, parse_manifest, read_manifest
from axlearn_core.config import ConfigError
from axlearn_core.errors import UserError

if TYPE_CHECKING:
    import tensorstore as ts

_DRIVERS = {"s3": "s3", "gs": "gcs"}
_RETRIES = {"max_retries": 6}  # with growing pauses, about half a minute in all


class StoreError(UserError):
    """An object store cannot be reached, or refuses."""


def is_store(name: str) -> bool:
    """Whether this is the URL of an object store, and no path."""
    return "://" in name


def check_store(url: str) -> None:
    """Raises a ConfigError unless this is the URL of an object store."""
    scheme, _, rest = url.partition("://")
    if scheme not in _DRIVERS or not rest.strip("/"):
        raise ConfigError(
            f"store must be s3://bucket/prefix or gs://bucket/prefix, got {url!r}; for a folder "
            "choose --dir"
        )


class Store:
    """The checkpoints below the prefix of a bucket.

    Credentials and region are those of the environment, as other programs take them. S3's
    AWS_ENDPOINT_URL leads to a store other than Amazon's.
    """

    def __init__(self, url: str):
        check_store(url)
        self.url = url.rstrip("/")
        self._opened: ts.KvStore | None = None

    def steps(self) -> list[int]:
        """Returns the steps of complete checkpoints, in order."""
        found = (name.split("/") for name in self._names())
        return sorted(int(step) for step, *rest in found if rest == [MANIFEST] and step.isdigit())

    def manifest(self, step: int) -> Manifest:
        """Returns a complete checkpoint's manifest.

        Raises:
            StoreError: if it cannot be read.
        """
        try:
            return parse_manifest(self._read(step, MANIFEST).decode())
        except ValueError as error:
            raise StoreError(f"{self.url}/{_key(step, MANIFEST)}: {error}") from error

    def facts(self, step: int) -> dict[str, Any]:
        """Returns the small JSON that was saved with a checkpoint."""
        facts: dict[str, Any] = json.loads(self._read(step, "run.json"))
        return facts

    def upload(self, folder: Path, step: int) -> None:
        """Copies a complete checkpoint from a disk."""
        for name in read_manifest(folder).files:
            self._write(step, name, (folder / name).read_bytes())
        self._write(step, MANIFEST, (folder / MANIFEST).read_bytes())

    def download(self, step: int, directory: Path) -> Path:
        """Copies a checkpoint to the directory of a run; verify it there."""
        folder = step_folder(directory, step)
        for name in self.manifest(step).files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(self._read(step, name))
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{MANIFEST}.partial"
        partial.write_bytes(self._read(step, MANIFEST))
        partial.rename(folder / MANIFEST)
        return folder

    def problems(self, step: int) -> Iterator[str]:
        """Yields what is wrong with a checkpoint. Reads every byte of it."""
        for name, expected in self.manifest(step).files.items():
            try:
                data = self._read(step, name)
            except StoreError as error:
                yield str(error)
                continue
            found = hashlib.sha256(data).hexdigest()
            if found != expected.sha256:
                yield f"{name} has the checksum {found[:12]}, expected {expected.sha256[:12]}"

    def remove(self, step: int) -> None:
        """Deletes a checkpoint, its manifest first."""
        self._do(lambda store: store.write(_key(step, MANIFEST), None).result())
        for name in self._names(f"{step:08d}/"):
            self._do(lambda store, name=name: store.write(name, None).result())

    def _names(self, prefix: str = "") -> list[str]:
        return [
            key.decode()
            for key in self._do(lambda store: store.list().result())
            if key.decode().startswith(prefix)
        ]

    def _read(self, step: int, name: str) -> bytes:
        found = self._do(lambda store: store.read(_key(step, name)).result())
        if found.state != "value":
            raise StoreError(f"{self.url}/{_key(step, name)} is missing")
        return bytes(found.value)

    def _write(self, step: int, name: str, data: bytes) -> None:
        self._do(lambda store: store.write(_key(step, name), data).result())

    def _do(self, action: Any) -> Any:
        import tensorstore as ts

        try:
            if self._opened is None:
                context = ts.Context(
                    {f"{driver}_request_retries": _RETRIES for driver in _DRIVERS.values()}
                )
                self._opened = ts.KvStore.open(self._spec(), context=context).result()
            return action(self._opened)
        except (ValueError, OSError, RuntimeError) as error:  # as tensorstore maps its statuses
            raise StoreError(
                f"{self.url} does not answer as it should: {str(error).splitlines()[0][:300]}"
            ) from error

    def _spec(self) -> dict[str, Any]:
        scheme, _, rest = self.url.partition("://")
        bucket, _, prefix = rest.partition("/")
        spec = {"driver": _DRIVERS[scheme], "bucket": bucket}
        if prefix:
            spec["path"] = f"{prefix}/"
        if scheme == "s3" and (endpoint := os.environ.get("AWS_ENDPOINT_URL")):
            spec["endpoint"] = endpoint
            spec["aws_region"] = os.environ.get("AWS_REGION", "us-east-1")
        return spec


def _key(step: int, name: str) -> str:
    return f"{step:08d}/{name}"
