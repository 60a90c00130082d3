"""What preparation reads: documents, with their ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from axlearn_inputs.sources import DocumentSource
from axlearn_inputs.tokenizers import Tokenizer


class Document(NamedTuple):
    """One document: its text, and its ids without bos and eos."""

    text: str
    ids: NDArray[np.int32]


class ReadTask(Protocol):
    """Runs a split of a task once; `axlearn_inputs.tasks.read_task` does so by seqio."""

    def __call__(self, task: str, split: str, tokenizer: Tokenizer) -> Iterable[Document]: ...


def read_source(source: DocumentSource, split: str, tokenizer: Tokenizer) -> Iterator[Document]:
    """Reads a split of a source once."""
    for text, _ in source.read(split):
        yield Document(text, tokenizer.encode(text))
