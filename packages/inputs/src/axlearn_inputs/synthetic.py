"""Tokens without files: a random Markov chain, which a model can learn and a test can predict."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_inputs.row_input import RowInput


class SyntheticInput(RowInput):
    """Rows of a first-order Markov chain in which each token has `branching` possible successors.

    They are equally likely, so no model can have a loss below ln(branching), and one that has
    learned the chain has that.
    """

    class Config(RowInput.Config):
        vocab_size: int = REQUIRED
        branching: int = 4  # successors per token
        seed: int = 0

    def __init__(self, config: Config):
        super().__init__(config)
        if not 1 <= config.branching <= config.vocab_size:
            raise ConfigError(
                f"branching (={config.branching}) must be from 1 to vocab_size "
                f"(={config.vocab_size}): a token's successors are different"
            )

    @property
    def lowest_loss(self) -> float:
        """The loss of a model that knows the chain, in nats per token."""
        return math.log(self.config.branching)

    def rows(self, places: range) -> NDArray[np.int32]:
        cfg = self.config
        # All choices of a row are drawn from the row's own stream; the chain then runs for all
        # rows at once.
        streams = [np.random.default_rng([cfg.seed, place]) for place in places]
        token = np.array([stream.integers(cfg.vocab_size) for stream in streams])
        choices = np.array([stream.integers(cfg.branching, size=cfg.seq_len) for stream in streams])
        ids = np.empty((len(places), cfg.seq_len + 1), np.int32)
        ids[:, 0] = token
        for step in range(cfg.seq_len):
            token = ids[:, step + 1] = self._successors[token, choices[:, step]]
        return ids

    @cached_property
    def _successors(self) -> NDArray[np.int32]:
        cfg = self.config
        stream = np.random.default_rng(cfg.seed)
        # Distinct offsets from a random place give each token distinct successors.
        place = stream.permutation(cfg.vocab_size)
        offsets = stream.choice(cfg.vocab_size, cfg.branching, replace=False)
        return ((place[:, None] + offsets) % cfg.vocab_size).astype(np.int32)
