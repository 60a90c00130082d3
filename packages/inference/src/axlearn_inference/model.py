"""A model that generates, and what its ids mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax

from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_core.parallel import Placement
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.request import Request
from axlearn_inference.sampling import TOP


@runtime_checkable
class Generating(Protocol):
    """A model that can read tokens one after the other, as `axlearn_layers.CausalLM`."""

    @property
    def max_length(self) -> int | None:
        """The longest sequence that it can read, in tokens; None is any."""
        ...

    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Returns what is remembered of sequences that are empty and will have `max_length`."""
        ...

    def extend(
        self,
        input_ids: jax.Array,
        cache: Tree,
        lengths: jax.Array | None = None,
        adapter_ids: jax.Array | None = None,
        last_only: bool = False,
    ) -> tuple[jax.Array, Tree]:
        """Reads further tokens, [batch, seq] int, of which the first `lengths` count.

        Returns:
            [batch, seq, vocab] scores of the token after each of them, or [batch, 1, vocab] of
            that after the last one that counts, and the new cache.
        """
        ...


@runtime_checkable
class EncoderDecoding(Generating, Protocol):
    """A model whose prompt is a sequence of its own, as `axlearn_layers.EncoderDecoder`'s."""

    @property
    def start_id(self) -> int:
        """The id that stands before each text."""
        ...

    def prefill(
        self, prompt_ids: jax.Array, cache: Tree, lengths: jax.Array | None = None
    ) -> tuple[jax.Array, Tree]:
        """Reads prompts, [batch, seq] int, of which the first `lengths` ids count.

        Returns:
            [batch, 1, vocab] scores of the first token of each text, and the new cache, from which
            `extend` goes on.
        """
        ...


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A model with its parameters on this machine's devices.

    Attributes:
        name: for people, and for clients that ask which models there are.
        module: the model; call it by `axlearn_core.module.functional`.
        variables: its parameters and other state, in the dtype in which it computes.
        tokenizer: what its ids mean; None if they stand for no text.
        dtype: of activations and caches.
        vocab_size: of ids, and of scores.
        placement: of the parameters on several devices; trace what calls the model within
            `axlearn_core.parallel.placing`. None is one device.
        max_length: of a sequence, in tokens: to which it was trained, or for which the module has
            positions, if that is less. None is any.
    """

    name: str
    module: Generating
    variables: Tree
    tokenizer: Tokenizer | None
    dtype: str
    vocab_size: int
    placement: Placement | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        limits = [n for n in (self.max_length, self.module.max_length) if n is not None]
        object.__setattr__(self, "max_length", min(limits, default=None))

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt, and the text is a sequence of its own."""
        return isinstance(self.module, EncoderDecoding)

    def before(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """Returns the ids that the text of a prompt continues."""
        if isinstance(self.module, EncoderDecoding):
            return (self.module.start_id,)
        return tuple(prompt)

    def room(self, prompt: Sequence[int]) -> int | None:
        """Returns how many tokens the text of a prompt may have; None is any number."""
        return None if self.max_length is None else self.max_length - len(self.before(prompt))

    def check_decoder_only(self, reader: str) -> None:
        """Raises a UserError for an encoder-decoder, which `reader` does not know."""
        if self.is_encoder_decoder:
            raise UserError(
                f"{self.name} is an encoder-decoder, and {reader} reads prompt and text as one "
                "sequence; decode it with axl generate, or axlearn_inference.generate"
            )

    def check(self, request: Request) -> None:
        """Raises a UserError if the model cannot answer a request, whoever decodes it."""
        self._check_length(request)
        strange = [token for token in request.prompt if not 0 <= token < self.vocab_size]
        if strange:
            raise UserError(f"ids must be from 0 to {self.vocab_size - 1}, got {strange[0]}")
        if request.top_logprobs is not None and not 0 <= request.top_logprobs <= TOP:
            raise UserError(f"top_logprobs (={request.top_logprobs}) must be from 0 to {TOP}")
        if request.stop and self.tokenizer is None:
            raise UserError(f"{self.name} has no tokenizer, so stop strings mean nothing")

    def _check_length(self, request: Request) -> None:
        longest, room = self.max_length, self.room(request.prompt)
        if longest is None or room is None:
            return
        if len(request.prompt) > longest or room < 1:
            raise UserError(
                f"the prompt has {len(request.prompt)} tokens, and a sequence of {self.name} at "
                f"most {longest}: shorten it"
            )
        if request.max_tokens > room:
            raise UserError(
                f"max_tokens (={request.max_tokens}) after {longest - room} tokens is more than a "
                f"sequence of {self.name} has, at most {longest}: ask for {room}, or shorten the "
                "prompt"
            )
