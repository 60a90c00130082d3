"""Documents that are too short to say something, or too long to be one."""

from __future__ import annotations

from axlearn_core.config import ConfigError
from axlearn_inputs.filters.filter import DocumentFilter


class LengthFilter(DocumentFilter):
    """Drops documents with fewer or more words than given, by default as arXiv:2112.11446 does."""

    class Config(DocumentFilter.Config):
        min_words: int = 50
        max_words: int = 100_000

    def __init__(self, config: Config):
        super().__init__(config)
        if config.min_words > config.max_words:
            raise ConfigError(
                f"min_words (={config.min_words}) must be at most max_words (={config.max_words})"
            )

    def drops(self, text: str) -> bool:
        return not self.config.min_words <= len(text.split()) <= self.config.max_words
