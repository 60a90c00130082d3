"""`axl tokenizer train`, and what a command's `--tokenizer` means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from axlearn_core.config import ConfigBase, near_names
from axlearn_core.errors import UserError
from axlearn_core.plugins import Registry, get_registry
from axlearn_core.training.tokenizer import Tokenizer, TokenizerTrainer
from axlearn_inputs.corpora import CORPORA
from axlearn_inputs.sources import ENDS, SeqioTask, TextFiles, source_of_files
from axlearn_inputs.tokenizers.sentence_piece import MODEL_FILE

DEFAULT_VOCAB_SIZE = 2048
_MEASURED_CHARACTERS = 1 << 20


@click.group()
def tokenizer() -> None:
    """Train a tokenizer."""


@tokenizer.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--vocab-size", type=int, required=True, help="Tokens, special ones included.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--kind", default="bpe", show_default=True, help="Or sentencepiece, or a plugin's.")
@click.option("--split", default="train", show_default=True, help="Of tasks and patterns.")
@click.option("--special-token", "special_tokens", multiple=True, help="A name to reserve.")
@click.option("--chatml", is_flag=True, help="With a template for chats.")
def train(
    names: tuple[str, ...],
    vocab_size: int,
    out: Path,
    kind: str,
    split: str,
    special_tokens: tuple[str, ...],
    chatml: bool,
) -> None:
    """Train a tokenizer on text, and write it into a folder.

    Each NAME is a pattern of files, such as 'corpus/*.jsonl' (jsonl, parquet or txt), any file of
    text, a bundled task, such as moby_dick, or another seqio task as module:name.
    """
    registry = get_registry()
    options = {"special_tokens": special_tokens, "chatml": chatml}
    given = {name: value for name, value in options.items() if value}
    config = chosen_tokenizer(registry, kind).set(vocab_size=vocab_size, **given)
    trainer = config.instantiate()
    if not isinstance(trainer, TokenizerTrainer):
        raise click.UsageError(f"--kind {kind}: it is not trained; choose bpe or sentencepiece")
    sources = [_source(name) for name in names]
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} holds something already; choose a new folder")
    out.mkdir(parents=True, exist_ok=True)
    trained: Tokenizer = trainer.train(_texts(sources, split), out)
    characters, tokens = _measured(trained, _texts(sources, split))
    click.echo(
        f"wrote {out}: {trained.vocab_size:,} tokens, "
        f"{characters / max(tokens, 1):.2f} characters per token of its own text"
    )
    click.echo(f"next: axl data prepare {names[0]} --tokenizer {out}")


def chosen_tokenizer(registry: Registry, name: str) -> ConfigBase:
    """Returns the config of a registered tokenizer, or of one in a folder or file.

    Raises:
        UserError: if there is neither.
    """
    known = [found.name for found in registry.records("tokenizer")]
    path = Path(name)
    if name not in known and path.exists():
        if (path / MODEL_FILE).exists() and not (path / "tokenizer.json").exists():
            path /= MODEL_FILE
        name = "sentencepiece-model" if path.suffix == ".model" else "huggingface"
    if name in ("bpe", "huggingface") and name not in known:
        raise UserError(
            f"the tokenizer {name} needs a package: pip install axlearn-huggingface. Without it "
            "there are byte and sentencepiece"
        )
    config: ConfigBase = registry.tokenizer(name).default_config()
    return config.set(path=str(path)) if name in ("huggingface", "sentencepiece-model") else config


def _source(name: str) -> Any:
    """Returns what reads a name's text: a source of documents, or a bundled corpus."""
    if name in CORPORA:
        return CORPORA[name]
    if Path(name).is_file() and not name.endswith(ENDS):
        return TextFiles.Config(files=(name,)).instantiate()
    files = source_of_files(name)
    if files is None and ":" not in name:
        raise UserError(
            f"there is neither a file nor a bundled task {name!r}.{near_names(name, CORPORA)} "
            f"Tasks: {', '.join(CORPORA)}, or module:name of one that a module registers"
        )
    return (files or SeqioTask.Config(task=name)).instantiate()


def _texts(sources: Sequence[Any], split: str) -> Iterator[str]:
    for source in sources:
        if source in CORPORA.values():
            yield from source.documents(split)
        else:
            yield from (found.text for found in source.read(split))


def _measured(tokenizer: Tokenizer, texts: Iterator[str]) -> tuple[int, int]:
    """Returns the characters and tokens of the beginning of a text."""
    characters = tokens = 0
    for text in texts:
        characters += len(text)
        tokens += len(tokenizer.encode(text))
        if characters > _MEASURED_CHARACTERS:
            break
    return characters, tokens
