"""What a run has for an input that was imported and not trained."""

from __future__ import annotations

from typing import Any

from axlearn_core.errors import UserError
from axlearn_core.training.input import BatchIterator, BatchShape, Input
from axlearn_core.training.tokenizer import Tokenizer


class Pretrained(Input):
    """The tokenizer of a published model, and no batches."""

    trains = False

    class Config(Input.Config):
        batch_size: int = 1
        tokenizer: Tokenizer.Config | None = None
        max_length: int | None = None  # tokens that the model was made for; None is not known

    def tokenizer(self) -> Tokenizer | None:
        config = self.config.tokenizer
        return None if config is None else config.instantiate()

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        raise _NO_DATA

    def batch_shape(self) -> BatchShape:
        raise _NO_DATA

    def describe(self) -> dict[str, Any]:
        return {"pretrained": True}


_NO_DATA = UserError(
    "this is a model that was imported, without data to train on. Begin a run of an experiment "
    "with its parameters: axl train EXPERIMENT initialize_from.checkpoint=DIR"
)
