"""Documents that are lists, tables or markup rather than text."""

from __future__ import annotations

from axlearn_inputs.filters.filter import DocumentFilter


class CharacterFilter(DocumentFilter):
    """Drops documents by ratios of characters and words; the defaults are from arXiv:2112.11446.

    mean word length outside of [3, 10], more than 0.1 symbols (`#` or an ellipsis) per word, or
    less than 80 % of the words with a letter. A document without words is dropped.
    """

    class Config(DocumentFilter.Config):
        min_mean_word_length: float = 3.0  # characters
        max_mean_word_length: float = 10.0
        max_symbols_per_word: float = 0.1
        min_words_with_letters: float = 0.8  # fraction

    def drops(self, text: str) -> bool:
        cfg, words = self.config, text.split()
        if not words:
            return True
        mean = sum(map(len, words)) / len(words)
        symbols = text.count("#") + text.count("...") + text.count("…")
        lettered = sum(any(map(str.isalpha, word)) for word in words)
        return not (
            cfg.min_mean_word_length <= mean <= cfg.max_mean_word_length
            and symbols <= cfg.max_symbols_per_word * len(words)
            and lettered >= cfg.min_words_with_letters * len(words)
        )
