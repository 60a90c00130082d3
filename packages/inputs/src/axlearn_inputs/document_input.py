"""Training on text as it comes: read, filtered, shuffled, tokenized and packed on the way."""

from __future__ import annotations

from typing import Any

from axlearn_core.config import REQUIRED, ConfigError, to_text
from axlearn_inputs.document_rows import DocumentRows
from axlearn_inputs.filters import DocumentFilter
from axlearn_inputs.packers import BestFitPacker, Packer
from axlearn_inputs.records import Damaged
from axlearn_inputs.row_stream import RowStreamInput
from axlearn_inputs.sources import DocumentSource
from axlearn_inputs.tokenizers import Tokenizer


class DocumentInput(RowStreamInput):
    """Reads documents without preparation, in windows.

    A window is `window` documents that follow each other. They are shuffled, tokenized and packed
    together, and no row has documents of two windows. So a place in the stream is a window and a
    number of rows, whatever the packer; going on reads that window again. A pass over the source
    ends a window, too.

    Every process reads and tokenizes the whole stream and keeps its rows. For a global shuffle, and
    for many processes, prepare the data.
    """

    class Config(RowStreamInput.Config):
        documents: DocumentSource.Config = REQUIRED
        split: str = "train"  # of the documents
        filters: dict[str, DocumentFilter.Config] = {}  # by names of your own, in turn
        tokenizer: Tokenizer.Config = REQUIRED
        seq_len: int = REQUIRED  # targets per row
        packer: Packer.Config = BestFitPacker.default_config()
        window: int = 4096  # documents that are shuffled and packed together, and held in memory
        seed: int = 0  # of the order of documents in each window
        num_epochs: int | None = None  # None: without end
        # A document that cannot be read ends the run; or it is left out, which the state counts.
        damaged: Damaged = "stop"

    def __init__(self, config: Config):
        super().__init__(config)
        if config.window < 1 or config.seq_len < 1:
            raise ConfigError("window and seq_len must be at least 1")
        self._documents: DocumentSource = config.documents.instantiate()
        self._packer: Packer = config.packer.instantiate()
        self._tokenizer: Tokenizer = config.tokenizer.instantiate()
        self._filters: dict[str, DocumentFilter] = {
            name: part.instantiate() for name, part in config.filters.items()
        }
        for name, part in self._filters.items():
            if not part.stateless:
                raise ConfigError(
                    f"filters.{name} remembers documents, which no small state of a stream can. "
                    "Use it where data are prepared: PrepareSpec has filters, too"
                )

    @property
    def seq_len(self) -> int:
        length: int = self.config.seq_len
        return length

    @property
    def pad_id(self) -> int:
        return self._tokenizer.pad_id

    def row_stream(self) -> DocumentRows:
        cfg = self.config
        return DocumentRows(
            self._documents,
            cfg.split,
            filters=self._filters,
            tokenizer=self._tokenizer,
            packer=self._packer,
            seq_len=cfg.seq_len,
            window=cfg.window,
            seed=cfg.seed,
            num_epochs=cfg.num_epochs,
            damaged=cfg.damaged,
        )

    def describe(self) -> dict[str, Any]:
        cfg = self.config
        return {
            "documents": self._documents.describe(cfg.split),
            "split": cfg.split,
            "tokenizer": self._tokenizer.fingerprint(),
            "filters": {name: to_text(part) for name, part in cfg.filters.items()},
            "packer": to_text(cfg.packer),
            "batch_size": cfg.batch_size,
            "seq_len": cfg.seq_len,
            "window": cfg.window,
            "seed": cfg.seed,
            "damaged": cfg.damaged,
        }

    def tokenizer(self) -> Tokenizer:
        return self._tokenizer
