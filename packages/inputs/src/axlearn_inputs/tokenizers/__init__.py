"""Tokenizers: text to ids and back."""

from axlearn_inputs.tokenizers.byte import ByteTokenizer
from axlearn_inputs.tokenizers.sentence_piece import SentencePieceTokenizer, SentencePieceTrainer
from axlearn_inputs.tokenizers.tokenizer import Tokenizer, TokenizerTrainer

__all__ = [
    "ByteTokenizer",
    "SentencePieceTokenizer",
    "SentencePieceTrainer",
    "Tokenizer",
    "TokenizerTrainer",
]
