"""A model that generates, and what its ids mean."""

from __future__ import annotations

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
    """

    name: str
    module: Generating
    variables: Tree
    tokenizer: Tokenizer | None
    dtype: str
    vocab_size: int
    placement: Placement | None = None

    def check(self, request: Request) -> None:
        """Raises a UserError if the model cannot answer a request, whoever decodes it."""
        strange = [token for token in request.prompt if not 0 <= token < self.vocab_size]
        if strange:
            raise UserError(f"ids must be from 0 to {self.vocab_size - 1}, got {strange[0]}")
        if request.top_logprobs is not None and not 0 <= request.top_logprobs <= TOP:
            raise UserError(f"top_logprobs (={request.top_logprobs}) must be from 0 to {TOP}")
        if request.stop and self.tokenizer is None:
            raise UserError(f"{self.name} has no tokenizer, so stop strings mean nothing")
