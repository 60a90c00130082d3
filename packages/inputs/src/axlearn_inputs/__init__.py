"""Tasks, tokenizers, packing, prepared data and exactly resumable iterators."""

from axlearn_inputs.manifest import Manifest, PreparedDataError, load_manifest
from axlearn_inputs.packed import PackedInput
from axlearn_inputs.prepare import prepare
from axlearn_inputs.row_input import RowInput
from axlearn_inputs.rows import batch_shape, empty_batch, fill_row
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.synthetic import SyntheticInput
from axlearn_inputs.tokenizers import (
    ByteTokenizer,
    SentencePieceTokenizer,
    SentencePieceTrainer,
    Tokenizer,
    TokenizerTrainer,
)

__all__ = [
    "ByteTokenizer",
    "Manifest",
    "PackedInput",
    "PrepareSpec",
    "PreparedDataError",
    "RowInput",
    "SentencePieceTokenizer",
    "SentencePieceTrainer",
    "SyntheticInput",
    "Tokenizer",
    "TokenizerTrainer",
    "batch_shape",
    "empty_batch",
    "fill_row",
    "load_manifest",
    "prepare",
]
