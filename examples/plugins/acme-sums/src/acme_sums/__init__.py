"""Sums to learn, and a tokenizer with a closed alphabet."""

from acme_sums.sums import Sums
from acme_sums.tokenizer import AlphabetTokenizer

__all__ = ["AlphabetTokenizer", "Sums"]
