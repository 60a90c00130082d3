"""The rows that are made of a stream of documents, and where in the stream they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from axlearn_core.errors import UserError
from axlearn_core.observe.faults import tell_fault
from axlearn_inputs.filters import DocumentFilter, FilterChain
from axlearn_inputs.packers import Packer, Row
from axlearn_inputs.records import Damaged
from axlearn_inputs.sources import DocumentError, DocumentSource, Position
from axlearn_inputs.tokenizers import Tokenizer


class DocumentRows:
    """A `RowStream` over windows of documents.

    Its state is

        epoch       passes that are complete
        window      windows that are complete in this pass
        after       the position behind them, in the source's words; null at the beginning
        row         rows that this window has given
        documents   that were kept, whole windows at a time
        dropped     by each filter, likewise
        skipped     because they are damaged, likewise
        rows        given so far, over all windows and passes
        targets     in these rows

    and does not grow.
    """

    def __init__(
        self,
        source: DocumentSource,
        split: str,
        *,
        filters: Mapping[str, DocumentFilter],
        tokenizer: Tokenizer,
        packer: Packer,
        seq_len: int,
        window: int,
        seed: int,
        num_epochs: int | None,
        damaged: Damaged,
    ):
        self._source, self._split = source, split
        self._filters, self._tokenizer, self._packer = filters, tokenizer, packer
        self._seq_len, self._size, self._seed = seq_len, window, seed
        self._num_epochs, self._damaged = num_epochs, damaged
        self._epoch = self._number = 0
        self._after: Position | None = None
        self._before = _Counts(dropped=dict.fromkeys(filters, 0))  # over all complete windows
        self._window: _Window | None = None
        self._found: Iterator[tuple[str | None, Position]] | None = None

    def take(self, wanted: bool) -> Row | None:
        while True:
            if self._window is None:
                if self._num_epochs is not None and self._epoch >= self._num_epochs:
                    raise StopIteration
                self._window = self._read_window()
            row = self._window.take()
            if row is not None:
                return row
            self._close_window(self._window)

    def get_state(self) -> dict[str, Any]:
        window = self._window
        counts = self._before + window.counts if window else self._before
        return {
            "epoch": self._epoch,
            "window": self._number,
            "after": None if self._after is None else dict(self._after),
            "row": window.counts.rows if window else 0,
            **dataclasses.asdict(counts),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._number = state["epoch"], state["window"]
        self._after = state["after"]
        self._before = _Counts(**{name: state[name] for name in _COUNTED})
        self._found = self._window = None
        if state["row"]:
            self._window = self._read_window()
            for _ in range(state["row"]):
                self._window.take()
            if self._window.counts.rows != state["row"]:
                raise UserError(
                    f"the documents are others than before: window {self._number} of pass "
                    f"{self._epoch} gave {state['row']} rows, and has {self._window.counts.rows}"
                )
            self._before -= self._window.counts

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Returns the complete passes, the documents, and how full the rows are."""
        places = state["rows"] * self._seq_len
        return {
            "epoch": state["epoch"],
            "documents": state["documents"],
            "skipped": state["skipped"],
            **({"row_fullness": state["targets"] / places} if places else {}),
            **{f"dropped/{name}": count for name, count in state["dropped"].items()},
        }

    def _read_window(self) -> _Window:
        # After an error the iterator would be at its end, which must not pass for the source's.
        documents, self._found = self._found or self._read_on(), None
        chain = FilterChain(self._filters)
        after, texts, skipped = self._after, list[str](), 0
        for text, after in documents:  # noqa: B007 - the last one is used below
            if text is None:
                skipped += 1
            elif chain.keeps(text):
                texts.append(text)
                if len(texts) == self._size:
                    break
        self._found = documents
        order = np.random.default_rng([self._seed, self._epoch, self._number])
        encoded = (
            self._tokenizer.as_document(self._tokenizer.encode(texts[place]))
            for place in order.permutation(len(texts))
        )
        return _Window(
            self._packer.pack(encoded, self._seq_len),
            _Counts(len(texts), chain.dropped, skipped),
            after,
            ends_pass=len(texts) < self._size,
        )

    def _read_on(self) -> Iterator[tuple[str | None, Position]]:
        """Yields the documents behind the complete windows; None is one that was skipped."""
        after = self._after
        while True:
            try:
                yield from self._source.read(self._split, after)
                return
            except DocumentError as error:
                if self._damaged == "stop" or error.after is None:
                    raise
                tell_fault("document_skipped", f"{error}; it is left out")
                after = error.after
            yield None, after

    def _close_window(self, window: _Window) -> None:
        self._before += window.counts
        self._window = None
        if not window.ends_pass:
            self._number, self._after = self._number + 1, window.after
            return
        if not self._before.rows:
            raise UserError(
                f"the documents have nothing in their split {self._split!r}, after the filters"
            )
        self._epoch, self._number, self._after, self._found = self._epoch + 1, 0, None, None


@dataclass
class _Counts:
    """What a stream has read and given; one can be added to another, and taken from it."""

    documents: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    rows: int = 0
    targets: int = 0

    def __add__(self, other: _Counts) -> _Counts:
        return self._plus(other, 1)

    def __sub__(self, other: _Counts) -> _Counts:
        return self._plus(other, -1)

    def _plus(self, other: _Counts, sign: int) -> _Counts:
        return _Counts(
            self.documents + sign * other.documents,
            {name: count + sign * other.dropped[name] for name, count in self.dropped.items()},
            self.skipped + sign * other.skipped,
            self.rows + sign * other.rows,
            self.targets + sign * other.targets,
        )


_COUNTED = tuple(name.name for name in dataclasses.fields(_Counts))


@dataclass
class _Window:
    """The rows of one window that are still to come, and what is known about it."""

    rows: Iterator[Row]
    counts: _Counts
    after: Position | None  # behind its last document
    ends_pass: bool

    def take(self) -> Row | None:
        """Returns the next row, or None after the last one."""
        row = next(self.rows, None)
        if row is not None:
            self.counts.rows += 1
            self.counts.targets += sum(len(piece) - 1 for piece in row)
        return row
