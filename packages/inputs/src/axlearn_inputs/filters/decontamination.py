"""Documents that hold the text of an evaluation."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.errors import UserError
from axlearn_inputs.filters.filter import DocumentFilter
from axlearn_inputs.filters.ngrams import Hashes, ngram_hashes, word_hashes
from axlearn_inputs.sources import DocumentSource


class Decontamination(DocumentFilter):
    """Drops a document that shares a run of words with a text of an evaluation.

    Runs have `longest` words (13 as in arXiv:2005.14165, appendix C). A text of fewer words is
    looked for as a whole, if it has at least `shortest`; shorter ones are too common to mean
    something, and are left out. Case and punctuation make no difference.
    """

    class Config(DocumentFilter.Config):
        evaluations: DocumentSource.Config = REQUIRED  # its texts must not be trained on
        split: str = "test"  # of `evaluations`
        shortest: int = 4  # words
        longest: int = 13  # words

    def __init__(self, config: Config):
        super().__init__(config)
        if not 1 <= config.shortest <= config.longest:
            raise ConfigError(
                f"shortest (={config.shortest}) must be from 1 to longest (={config.longest})"
            )

    def drops(self, text: str) -> bool:
        words = word_hashes(text)
        return any(_overlap(ngram_hashes(words, n), known) for n, known in self._known.items())

    @cached_property
    def _known(self) -> dict[int, Hashes]:
        """Hashes of the evaluations' runs by their number of words, sorted."""
        cfg = self.config
        found: dict[int, list[Hashes]] = {}
        for document in cfg.evaluations.instantiate().read(cfg.split):
            words = word_hashes(document.text)
            if len(words) >= cfg.shortest:
                n = min(len(words), cfg.longest)
                found.setdefault(n, []).append(ngram_hashes(words, n))
        if not found:
            raise UserError(
                f"decontamination has nothing to look for: no text of its evaluations has "
                f"{cfg.shortest} words"
            )
        return {n: np.unique(np.concatenate(hashes)) for n, hashes in found.items()}


def _overlap(ngrams: Hashes, known: Hashes) -> bool:
    places = np.minimum(np.searchsorted(known, ngrams), len(known) - 1)
    return bool((known[places] == ngrams).any())
