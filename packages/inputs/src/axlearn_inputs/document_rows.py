"""The rows that are made of a stream of documents, and where in the stream they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from axlearn_core.errors import UserError
from axlearn_inputs.filters import DocumentFilter, FilterChain
from axlearn_inputs.packers import Packer, Row
from axlearn_inputs.sources import DocumentSource, Found, Position
from axlearn_inputs.tokenizers import Tokenizer


class DocumentRows:
    """A `RowStream` over windows of documents.

    Its state is

        epoch       passes that are complete
        window      windows that are complete in this pass
        after       the position behind them, in the source's words; null at the beginning
        row         rows that this window has given
        documents, rows, targets, dropped
                    counts over all complete windows

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
    ):
        self._source, self._split = source, split
        self._filters, self._tokenizer, self._packer = filters, tokenizer, packer
        self._seq_len, self._size, self._seed = seq_len, window, seed
        self._num_epochs = num_epochs
        self._epoch = self._number = 0
        self._after: Position | None = None
        self._counts: Counter[str] = Counter()  # over all complete windows
        self._dropped: Counter[str] = Counter(dict.fromkeys(filters, 0))
        self._window: _Window | None = None
        self._texts: Iterator[Found] | None = None

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
        return {
            "epoch": self._epoch,
            "window": self._number,
            "after": None if self._after is None else dict(self._after),
            "row": self._window.given if self._window else 0,
            **{name: self._counts[name] for name in ("documents", "rows", "targets")},
            "dropped": dict(self._dropped),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._number = state["epoch"], state["window"]
        self._after = state["after"]
        self._counts = Counter({n: state[n] for n in ("documents", "rows", "targets")})
        self._dropped = Counter(state["dropped"])
        self._texts = self._window = None
        if state["row"]:
            self._window = self._read_window()
            for _ in range(state["row"]):
                self._window.take()

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Returns the complete passes and documents, and of the rows how full they are."""
        places = state["rows"] * self._seq_len
        return {
            "epoch": state["epoch"],
            "documents": state["documents"],
            **({"row_fullness": state["targets"] / places} if places else {}),
            **{f"dropped/{name}": count for name, count in state["dropped"].items()},
        }

    def _read_window(self) -> _Window:
        if self._texts is None:
            self._texts = self._source.read(self._split, self._after)
        chain = FilterChain(self._filters)
        after = self._after
        texts = []
        for found in self._texts:
            after = found.after
            if chain.keeps(found.text):
                texts.append(found.text)
                if len(texts) == self._size:
                    break
        order = np.random.default_rng([self._seed, self._epoch, self._number])
        documents = (
            self._tokenizer.as_document(self._tokenizer.encode(texts[place]))
            for place in order.permutation(len(texts))
        )
        return _Window(
            self._packer.pack(documents, self._seq_len),
            documents=len(texts),
            complete=len(texts) == self._size,
            after=after,
            dropped=chain.dropped,
        )

    def _close_window(self, window: _Window) -> None:
        self._counts += Counter(
            documents=window.documents, rows=window.given, targets=window.targets
        )
        for name, count in window.dropped.items():
            self._dropped[name] += count
        self._window = None
        if window.complete:
            self._number, self._after = self._number + 1, window.after
            return
        if not self._counts["rows"]:
            raise UserError(
                f"the documents have nothing in their split {self._split!r}, after the filters"
            )
        self._epoch, self._number, self._after, self._texts = self._epoch + 1, 0, None, None


class _Window:
    """The rows of one window, and what is known about it.

    Attributes:
        complete: False for the last window of a pass.
        given, targets: of the rows so far.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        *,
        documents: int,
        complete: bool,
        after: Position | None,
        dropped: Mapping[str, int],
    ):
        self._rows = rows
        self.documents, self.complete, self.after, self.dropped = (
            documents,
            complete,
            after,
            dropped,
        )
        self.given = self.targets = 0

    def take(self) -> Row | None:
        """Returns the next row, or None after the last one."""
        row = next(self._rows, None)
        if row is not None:
            self.given += 1
            self.targets += sum(len(piece) - 1 for piece in row)
        return row
