"""What data are to be prepared: everything that decides the bytes of the result."""

from __future__ import annotations

import shlex

from axlearn_core.config import REQUIRED, ConfigBase
from axlearn_inputs.filters import DocumentFilter
from axlearn_inputs.packers import BestFitPacker, Packer
from axlearn_inputs.sources import DocumentSource
from axlearn_inputs.tokenizers import (
    ByteTokenizer,
    SentencePieceTrainer,
    Tokenizer,
    TokenizerTrainer,
)


class PrepareSpec(ConfigBase):
    """How text becomes packed rows."""

    # A source of documents, or a seqio task or mixture ("module:name" imports the module first).
    task: str | DocumentSource.Config = REQUIRED
    filters: dict[str, DocumentFilter.Config] = {}  # by names of your own, in turn
    splits: tuple[str, ...] = ("train", "validation")  # a tokenizer is trained on the first
    tokenizer: Tokenizer.Config | TokenizerTrainer.Config = ByteTokenizer.default_config()
    seq_len: int = REQUIRED  # targets per row
    packer: Packer.Config = BestFitPacker.default_config()
    seed: int = 0  # of the order in which rows are written


def source_name(spec: PrepareSpec) -> str:
    """Returns what messages call the text that a spec prepares."""
    return f"task {spec.task}" if isinstance(spec.task, str) else "the documents"


def prepare_command(spec: PrepareSpec, directory: str) -> str:
    """Returns the command that prepares `spec`, for error messages.

    Options cannot say everything that a spec can; then it is the command for an experiment.
    """
    if not isinstance(spec.task, str) or spec.filters or spec.packer != PrepareSpec().packer:
        return "axl data prepare EXPERIMENT"
    words = ["axl", "data", "prepare", spec.task, "--seq-len", str(spec.seq_len)]
    tokenizer = spec.tokenizer
    if isinstance(tokenizer, SentencePieceTrainer.Config) and tokenizer.model_type == "bpe":
        words += ["--tokenizer", "sentencepiece", "--vocab-size", str(tokenizer.vocab_size)]
    elif not isinstance(tokenizer, ByteTokenizer.Config):
        return "axl data prepare EXPERIMENT"
    if spec.splits != PrepareSpec().splits:
        words += [word for split in spec.splits for word in ("--split", split)]
    if spec.seed:
        words += ["--seed", str(spec.seed)]
    return shlex.join([*words, "--dir", directory])
