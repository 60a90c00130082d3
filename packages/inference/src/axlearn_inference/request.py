"""What is asked of a model, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from axlearn_core.errors import UserError

FinishReason = Literal["stop", "length"]
"""`stop`: an end id, a stop string or a constraint that is fulfilled; `length`: max_tokens, or the
model's longest sequence."""


@dataclass(frozen=True)
class Sampling:
    """How each next token is drawn.

    Attributes:
        temperature: divides the scores; 0 takes the most likely token.
        top_k: draws from so many of the most likely tokens; None from all.
        top_p: draws from the fewest tokens whose probabilities sum to it (arXiv:1904.09751).
        min_p: draws from tokens at least so likely as this times the likeliest (arXiv:2407.01082).
        repetition_penalty: divides positive and multiplies negative scores of tokens that the
            prompt or the text holds (CTRL, arXiv:1909.05858).
        presence_penalty: is subtracted from scores of tokens that the text holds.
        frequency_penalty: the same, times how often.
        seed: the same seed gives the same text, whatever else is in the batch.

    Raises:
        UserError: for a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fits, range_ in (
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "1 or more, or none"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
        ):
            if not fits:
                raise UserError(f"{name} (={getattr(self, name)}) must be {range_}")

    @property
    def penalises(self) -> bool:
        """Whether the scores of a token depend on the text before it."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return penalties != (1, 0, 0)


class Matcher(Protocol):
    """What a constraint allows one text next."""

    def fill_mask(self, mask: NDArray[np.int32]) -> None:
        """Writes which ids may follow: bit i % 32 of word i // 32 is id i's."""
        ...

    def accept(self, token: int) -> None:
        """Goes on by an id, one that was allowed."""
        ...

    def copy(self) -> Matcher:
        """Returns one that goes its own way from here."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the text is whole and nothing but an end id may follow."""
        ...


class Constraint(Protocol):
    """A set of texts, such as those that a JSON schema describes."""

    def matcher(self) -> Matcher:
        """Returns what follows one text from its beginning."""
        ...


@dataclass(frozen=True)
class Request:
    """One text to continue.

    Attributes:
        prompt: at least one id.
        max_tokens: how many ids at most follow.
        sampling: how they are drawn.
        stop: texts before which to stop.
        end_ids: ids after which to stop; they are not part of the text.
        top_logprobs: how many of the likeliest tokens to tell at each place; None tells no
            log-probabilities, 0 that of the drawn one.
        adapter: the name of a LoRA adapter; None is the model as it is.
        constraint: what the text must match.

    Raises:
        UserError: for an empty prompt or a number out of range.
    """

    prompt: tuple[int, ...]
    max_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    end_ids: tuple[int, ...] = ()
    top_logprobs: int | None = None
    adapter: str | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UserError("a prompt must have at least one token")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens (={self.max_tokens}) must be at least 1")


class Token(NamedTuple):
    """One generated id.

    Log-probabilities are the model's, in nats, before temperature, filters and constraints.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()  # (id, log-probability), likeliest first
    finish: FinishReason | None = None  # of the last one
    # What is certain of the text with this id and was not before: no half of a character, and
    # nothing that may begin a stop string. "" without a tokenizer.
    text: str = ""
