"""Tasks, tokenizers, packing, prepared data and exactly resumable iterators."""

from axlearn_inputs.packed import PackedInput
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.synthetic import SyntheticInput
from axlearn_inputs.tokenizers import (
    ByteTokenizer,
    SentencePieceTokenizer,
    SentencePieceTrainer,
    Tokenizer,
)

__all__ = [
    "ByteTokenizer",
    "PackedInput",
    "PrepareSpec",
    "SentencePieceTokenizer",
    "SentencePieceTrainer",
    "SyntheticInput",
    "Tokenizer",
]
