"""Tokenizers: text to ids and back."""

from axlearn_core.training.tokenizer import Tokenizer, TokenizerTrainer
from axlearn_inputs.tokenizers.byte import ByteTokenizer
from axlearn_inputs.tokenizers.sentence_piece import SentencePieceTokenizer, SentencePieceTrainer

__all__ = [
    "ByteTokenizer",
    "SentencePieceTokenizer",
    "SentencePieceTrainer",
    "Tokenizer",
    "TokenizerTrainer",
]
