"""`manifest.json`: what a directory of prepared data holds, and how it was made.

It is written last. A directory without one is not prepared data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axlearn_core.config import Difference, diff, from_json, to_json
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry
from axlearn_inputs.spec import PrepareSpec

FILE = "manifest.json"
FORMAT = 1


class PreparedDataError(UserError):
    """Prepared data are missing, damaged, or others than those asked for."""


@dataclass(frozen=True)
class Shard:
    """One ArrayRecord file."""

    file: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split: its files and what they count."""

    shards: tuple[Shard, ...]
    documents: int
    characters: int  # of text, as Unicode code points
    bytes: int  # of text, as UTF-8
    tokens: int  # without bos and eos
    targets: int  # what is predicted in one pass: tokens, and one eos per document
    records: int  # packed rows
    dropped: dict[str, int] = field(default_factory=dict)  # documents, by the filter's name

    @property
    def characters_per_target(self) -> float:
        """Divide a loss in nats per target by this to have nats per character."""
        return self.characters / self.targets

    def fingerprint(self) -> str:
        """Returns a sha256 of all records in their order."""
        joined = "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(joined.encode()).hexdigest()

    def fullness(self, seq_len: int) -> float:
        """Returns the part of the rows' places that is not padding."""
        return self.targets / (self.records * seq_len)


@dataclass(frozen=True)
class TokenizerSummary:
    """What the ids mean."""

    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int
    fingerprint: str  # sha256


@dataclass(frozen=True)
class Manifest:
    """Everything known about a directory of prepared data."""

    spec: dict[str, Any]  # a PrepareSpec as JSON
    seq_len: int
    tokenizer: TokenizerSummary
    splits: dict[str, Split]
    xz_nats_per_character: dict[str, float]  # what `xz -9` makes of the text; a bar to beat
    versions: dict[str, str]
    format: int = FORMAT

    def prepared_from(self) -> PrepareSpec:
        """Returns the spec that the data were made from."""
        return from_json(json.dumps(self.spec), PrepareSpec, get_registry())

    def differences(self, spec: PrepareSpec) -> list[Difference]:
        """Lists what differs between the spec of these data (old) and another one (new)."""
        return diff(self.prepared_from(), spec)

    def to_json(self) -> str:
        """Returns the text of the file."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def spec_as_json(spec: PrepareSpec) -> dict[str, Any]:
    """Writes a spec so that a manifest can hold it; its tokenizer must be a registered one."""
    data: dict[str, Any] = json.loads(to_json(spec, get_registry()))
    return data


def is_prepared(directory: Path) -> bool:
    """Says whether a preparation was finished here."""
    return (directory / FILE).is_file()


def load_manifest(directory: Path) -> Manifest:
    """Reads the manifest of a directory.

    Raises:
        PreparedDataError: if it is missing, unreadable, or of another format.
    """
    path = directory / FILE
    try:
        data = dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise PreparedDataError(f"no prepared data in {directory}: it has no {FILE}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise PreparedDataError(f"{path} cannot be read: {error}. {PREPARE_AGAIN}") from error
    if data.get("format") != FORMAT:
        raise PreparedDataError(
            f"{path} has format {data.get('format')!r}, expected {FORMAT}. {PREPARE_AGAIN}"
        )
    try:
        data["tokenizer"] = TokenizerSummary(**data["tokenizer"])
        data["splits"] = {name: _split(split) for name, split in data["splits"].items()}
        manifest = Manifest(**data)
        _check_types(manifest)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PreparedDataError(f"{path} is damaged: {error}. {PREPARE_AGAIN}") from error
    return manifest


PREPARE_AGAIN = "Prepare the data again with `axl data prepare ... --overwrite`."


def _split(data: dict[str, Any]) -> Split:
    return Split(**{**data, "shards": tuple(Shard(**shard) for shard in data["shards"])})


def _check_types(manifest: Manifest) -> None:
    """Raises a ValueError for what is no manifest, though its fields have the right names."""
    splits = list(manifest.splits.values())
    shards = [shard for split in splits for shard in split.shards]
    records: list[Any] = [manifest, manifest.tokenizer, *splits, *shards]
    for record in records:
        for member in dataclasses.fields(record):
            value = getattr(record, member.name)
            kind = {"int": int, "str": str}.get(str(member.type))
            if kind is not None and type(value) is not kind:
                raise ValueError(f"{member.name} must be of type {member.type}, found {value!r}")
    for name in ("spec", "xz_nats_per_character", "versions"):
        if not isinstance(getattr(manifest, name), dict):
            raise ValueError(f"{name} must be an object, found {getattr(manifest, name)!r}")
    for shard in shards:
        if shard.file == ".." or Path(shard.file).name != shard.file or "\0" in shard.file:
            raise ValueError(f"shard {shard.file!r} is not in this folder")
        if shard.records < 1:
            raise ValueError(f"shard {shard.file!r} has {shard.records} records")
    for split in splits:
        if not split.shards or split.targets < 1:
            raise ValueError("a split has at least one shard and one target")


def format_differences(differences: list[Difference]) -> str:
    """Writes differences one a line."""
    return "\n".join(f"  {path}: {old} -> {new}" for path, old, new in differences)
