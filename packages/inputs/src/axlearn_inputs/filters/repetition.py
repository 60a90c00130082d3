"""Documents that repeat themselves."""

from __future__ import annotations

from collections import Counter

import numpy as np

from axlearn_inputs.filters.filter import DocumentFilter
from axlearn_inputs.filters.ngrams import ngram_hashes, word_hashes


class RepetitionFilter(DocumentFilter):
    """Drops documents with too many repeated lines or runs of words.

    duplicate lines / lines, their characters / characters, words of the most frequent n-gram /
    words, and words in n-grams that occurred before / words. The limits are those of
    arXiv:2112.11446 (table A1), whose n-grams count characters where these count words.
    """

    class Config(DocumentFilter.Config):
        max_duplicate_lines: float = 0.3  # fractions
        max_duplicate_line_characters: float = 0.2
        max_top_ngram: dict[str, float] = {"2": 0.20, "3": 0.18, "4": 0.16}  # by n
        max_duplicate_ngrams: dict[str, float] = {
            "5": 0.15,
            "6": 0.14,
            "7": 0.13,
            "8": 0.12,
            "9": 0.11,
            "10": 0.10,
        }

    def drops(self, text: str) -> bool:
        return self._repeats_lines(text) or self._repeats_words(text)

    def _repeats_lines(self, text: str) -> bool:
        cfg, lines = self.config, [line for line in text.splitlines() if line.strip()]
        if not lines:
            return False
        counts = Counter(lines)
        repeated = len(lines) - len(counts)
        characters = sum(len(line) * (count - 1) for line, count in counts.items())
        return repeated > cfg.max_duplicate_lines * len(
            lines
        ) or characters > cfg.max_duplicate_line_characters * len(text)

    def _repeats_words(self, text: str) -> bool:
        words = word_hashes(text)
        for n, limit in self.config.max_top_ngram.items():
            _, counts = np.unique(ngram_hashes(words, int(n)), return_counts=True)
            top = int(counts.max(initial=0))
            if top > 1 and top * int(n) > limit * len(words):
                return True
        for n, limit in self.config.max_duplicate_ngrams.items():
            if _repeated_words(ngram_hashes(words, int(n)), int(n)) > limit * len(words):
                return True
        return False


def _repeated_words(ngrams: np.ndarray, n: int) -> int:
    """Counts the words that are in an n-gram which occurred before; each word once."""
    _, first = np.unique(ngrams, return_index=True)
    again = np.ones(len(ngrams), np.int64)
    again[first] = 0
    # A word is covered if one of the n n-grams that hold it occurred before.
    return int((np.convolve(again, np.ones(n, np.int64)) > 0).sum()) if len(again) else 0
