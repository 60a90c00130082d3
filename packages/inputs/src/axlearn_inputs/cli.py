"""`axl data prepare` and `axl data inspect`."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click

from axlearn_core.cli.text import table
from axlearn_core.config import ConfigBase, apply_overrides, find, near_names
from axlearn_core.errors import UserError
from axlearn_core.plugins import Registry, get_registry
from axlearn_inputs.corpora import CORPORA
from axlearn_inputs.filters import DocumentFilter
from axlearn_inputs.manifest import Manifest, Split, load_manifest
from axlearn_inputs.packed import PackedInput, load_tokenizer
from axlearn_inputs.prepare import prepare as prepare_data
from axlearn_inputs.rows import decode_row, id_dtype
from axlearn_inputs.shards import ShardReader
from axlearn_inputs.sources import ENDS, source_of_files
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.tokenizer_cli import DEFAULT_VOCAB_SIZE, chosen_tokenizer
from axlearn_inputs.tokenizers import Tokenizer, TokenizerTrainer

_DEFAULT_SEQ_LEN = 512


@click.group()
def data() -> None:
    """Prepare training data, and look at what was prepared."""


@data.command()
@click.argument("name")
@click.argument("overrides", nargs=-1, metavar="[PATH=VALUE]...")
@click.option("--dir", "directory", help="Where to write.  [default: prepared/TASK]")
@click.option(
    "--tokenizer", help="byte, sentencepiece, bpe, or a tokenizer's folder.  [default: byte]"
)
@click.option(
    "--vocab-size", type=int, help=f"Of one to be trained.  [default: {DEFAULT_VOCAB_SIZE}]"
)
@click.option("--seq-len", type=int, help=f"Targets per row.  [default: {_DEFAULT_SEQ_LEN}]")
@click.option("--seed", type=int, help="Of the order of rows.  [default: 0]")
@click.option("--split", "splits", multiple=True, help="[default: train, validation]")
@click.option("--filter", "filters", multiple=True, help="Drops documents, such as length.")
@click.option("--overwrite", is_flag=True, help="Replace data of another spec.")
def prepare(
    name: str,
    overrides: tuple[str, ...],
    directory: str | None,
    tokenizer: str | None,
    vocab_size: int | None,
    seq_len: int | None,
    seed: int | None,
    splits: tuple[str, ...],
    filters: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Tokenize and pack the text of NAME.

    NAME is an experiment: then its config says what to prepare and where, PATH=VALUE changes it as
    for `axl train`, and only --dir and --overwrite apply. Or it is a pattern of files, such as
    'corpus/{split}-*.jsonl' (jsonl, parquet or txt). Or it is a seqio task or mixture, such as
    moby_dick, or module:name of one that a module of yours registers.
    """
    registry = get_registry()
    if any(found.kind == "experiment" for found in registry.resolve(name)):
        options = (tokenizer, vocab_size, seq_len, seed, *splits, *filters)
        if any(option is not None for option in options):
            raise click.UsageError(
                f"{name} is an experiment, whose config says how its data are prepared; write "
                "PATH=VALUE instead of options, such as '**.source.seq_len=512'"
            )
        jobs = _jobs_of_experiment(registry, name, overrides, directory)
        hint = " ".join(["axl train", name, *overrides])
    else:
        if overrides:
            raise click.UsageError(
                f"{overrides[0]!r}: PATH=VALUE is for experiments, and there is none named {name!r}"
            )
        files = source_of_files(name)
        if files is None:
            _require_task(registry, name)
        elif "{split}" not in name:
            splits = splits or ("train",)
        spec = PrepareSpec(task=files or name, seq_len=seq_len or _DEFAULT_SEQ_LEN, seed=seed or 0)
        if splits:
            spec.splits = splits
        spec.tokenizer = _tokenizer(registry, tokenizer or "byte", vocab_size)
        spec.filters = {name: _filter(registry, name) for name in filters}
        jobs = [(directory or f"prepared/{_default_folder(name)}", spec)]
        hint = f"axl data inspect {jobs[0][0]}"
    for where, spec in jobs:
        manifest = prepare_data(spec, where, overwrite=overwrite, report=click.echo)
        click.echo(_summary(manifest, where))
    click.echo(f"next: {hint}")


def _require_task(registry: Registry, name: str) -> None:
    """Refuses a name that seqio cannot know either, before 10 s of imports."""
    if ":" in name or name in CORPORA:
        return
    experiments = [found.name for found in registry.records("experiment")]
    raise UserError(
        f"there is neither an experiment nor a bundled task {name!r}."
        f"{near_names(name, [*experiments, *CORPORA])} `axl experiments` lists experiments; tasks: "
        f"{', '.join(CORPORA)}, or module:name of one that a module registers. Files end in "
        f"{', '.join(ENDS)}"
    )


def _default_folder(name: str) -> str:
    """The folder of files, or their name without pattern and ends; the name of a task."""
    if source_of_files(name) is None:
        return name.rpartition(":")[2]
    path = Path(name)
    return path.parent.name or re.split(r"[.{*?\[]", path.name)[0].rstrip("-_") or "text"


def _filter(registry: Registry, name: str) -> DocumentFilter.Config:
    found = registry.load("preprocessor", name)
    if not (isinstance(found, type) and issubclass(found, DocumentFilter)):
        raise click.UsageError(f"--filter {name}: it is no filter of documents")
    return found.Config()


def _tokenizer(
    registry: Registry, name: str, vocab_size: int | None
) -> Tokenizer.Config | TokenizerTrainer.Config:
    config = chosen_tokenizer(registry, name)
    if isinstance(config, TokenizerTrainer.Config):
        return config.set(vocab_size=vocab_size or DEFAULT_VOCAB_SIZE)
    if vocab_size is not None:
        raise click.UsageError(
            f"--vocab-size is for a tokenizer that is to be trained, such as --tokenizer "
            f"sentencepiece; {name} has its own"
        )
    return cast(Tokenizer.Config, config)


def _jobs_of_experiment(
    registry: Registry, name: str, overrides: Sequence[str], directory: str | None
) -> list[tuple[str, PrepareSpec]]:
    """Lists each directory that an experiment reads, once, and what belongs there."""
    cfg = apply_overrides(registry.experiment(name)(), overrides, resolve=registry.lookup)
    jobs: dict[str, PrepareSpec] = {}
    for path, node in cast(list[tuple[str, PackedInput.Config]], find(cfg, PackedInput)):
        where = directory or node.directory
        if jobs.setdefault(where, node.source) != node.source:
            raise UserError(
                f"{name}: {path}.source is not the source of another input with the same directory "
                f"{where}; give each its own directory, without --dir"
            )
    if not jobs:
        raise UserError(f"{name} reads no prepared data: nothing to prepare")
    return list(jobs.items())


def _summary(manifest: Manifest, directory: str) -> str:
    lines = [f"prepared in {directory}: vocabulary {manifest.tokenizer.vocab_size:,}"]
    for what, nats in manifest.xz_nats_per_character.items():
        lines.append(f"  xz -9, {what}: {nats:.3f} nats per character")
    return "\n".join(lines)


@data.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.option("--check", is_flag=True, help="Compare the checksum of every shard.")
def inspect(directory: Path, as_json: bool, check: bool) -> None:
    """Show what DIRECTORY holds, and the first row as text."""
    manifest = load_manifest(directory)
    if check:
        for split in manifest.splits.values():
            ShardReader(directory, split.shards).check_all()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(manifest), indent=1))
        return
    source = manifest.prepared_from()
    rows = [(path, str(value)) for path, value in _facts(manifest, source)]
    click.echo(table(("what", "value"), rows))
    click.echo()
    columns = ("split", "documents", "characters", "tokens", "targets", "rows", "full", "shards")
    click.echo(table(columns, [_split_row(n, s, manifest) for n, s in manifest.splits.items()]))
    for name, split in manifest.splits.items():
        for by, count in split.dropped.items():
            click.echo(f"  {name}: {by} dropped {count:,} documents")
    click.echo(f"\n{_first_row(manifest, source, directory)}")
    if check:
        click.echo("\nall checksums are right")


def _facts(manifest: Manifest, source: PrepareSpec) -> list[tuple[str, Any]]:
    return [
        ("source", source.task if isinstance(source.task, str) else repr(source.task)),
        *((f"filter {name}", repr(part)) for name, part in source.filters.items()),
        ("tokenizer", _name(source.tokenizer)),
        ("vocabulary", manifest.tokenizer.vocab_size),
        ("fingerprint", manifest.tokenizer.fingerprint),
        ("row length", manifest.seq_len),
        *((f"xz -9, {k}", f"{v:.3f} nats/char") for k, v in manifest.xz_nats_per_character.items()),
        ("made by", ", ".join(f"{name} {v}" for name, v in manifest.versions.items())),
    ]


def _name(tokenizer: ConfigBase) -> str:
    return get_registry().name_of(type(tokenizer)._target) or type(tokenizer).__qualname__


def _split_row(name: str, split: Split, manifest: Manifest) -> list[str]:
    counts = (split.documents, split.characters, split.tokens, split.targets, split.records)
    full = f"{split.fullness(manifest.seq_len):.1%}"
    return [name, *(f"{count:,}" for count in counts), full, str(len(split.shards))]


def _first_row(manifest: Manifest, source: PrepareSpec, directory: Path) -> str:
    split, contents = next(iter(manifest.splits.items()))
    record = ShardReader(directory, contents.shards)[0]
    tokenizer = load_tokenizer(source, directory, manifest)
    lines = [f"first row of {split}:"]
    for number, ids in enumerate(decode_row(record, id_dtype(tokenizer.vocab_size)), start=1):
        text = _shorten(tokenizer.decode(ids))
        lines.append(f"  segment {number}, {len(ids) - 1} targets: {text}")
    return "\n".join(lines)


def _shorten(text: str, limit: int = 160) -> str:
    return repr(text if len(text) <= limit else f"{text[:limit]}...")
