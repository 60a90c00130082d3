"""Drafts: who proposes the next tokens."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_inference.model import LanguageModel
from axlearn_inference.sampling import Rules
from axlearn_inference.speculative.acceptance import (
    PROPOSE,
    Penalized,
    categorical,
    keys,
    probabilities,
)
from axlearn_inference.speculative.reading import check_rewinds, extend


class Proposal(NamedTuple):
    """What may follow each text."""

    tokens: jax.Array  # [batch, k] int32
    probabilities: jax.Array  # [batch, k, vocab] float32, what each was drawn from
    state: Tree  # the draft's, which has read all of them


class Draft(Protocol):
    """Proposes tokens.

    Its state is a tree with `length`, [batch] int: how many tokens of each text it has read, all
    but the last. Setting `length` back makes it forget what came after.
    """

    draft_tokens: int  # k
    variables: Tree  # parameters
    vocab_size: int

    def init(self, batch_size: int, max_length: int) -> Tree:
        """Returns the state of having read nothing."""
        ...

    def read(self, variables: Tree, state: Tree, ids: jax.Array, lengths: jax.Array) -> Tree:
        """Reads the first `lengths` of ids [batch, seq], and returns its new state."""
        ...

    def propose(
        self,
        variables: Tree,
        state: Tree,
        last: jax.Array,
        rules: Rules,
        made: jax.Array,
        penalized: Penalized | None,
    ) -> Proposal:
        """Reads the last token [batch] of each text, and says how it goes on.

        `made` [batch] are the tokens after its prompt; chance depends on them and the seed alone.
        """
        ...


class ModelDraft:
    """A smaller model with the same vocabulary, which draws by the same rules.

    Args:
        model: the smaller model.
        draft_tokens: how many tokens it proposes in each step.

    Raises:
        UserError: if its cache cannot forget tokens; see `check_rewinds`.
    """

    def __init__(self, model: LanguageModel, draft_tokens: int = 4) -> None:
        _check_draft_tokens(draft_tokens)
        check_rewinds(model, draft_tokens)
        self.model = model
        self.draft_tokens = draft_tokens
        self.variables = model.variables
        self.vocab_size = model.vocab_size

    def init(self, batch_size: int, max_length: int) -> Tree:
        return self.model.module.init_cache(batch_size, max_length, self.model.dtype)

    def read(self, variables: Tree, state: Tree, ids: jax.Array, lengths: jax.Array) -> Tree:
        return extend(self.model, variables, state, ids, lengths)[1]

    def propose(
        self,
        variables: Tree,
        state: Tree,
        last: jax.Array,
        rules: Rules,
        made: jax.Array,
        penalized: Penalized | None,
    ) -> Proposal:
        rows = jnp.arange(last.shape[0])

        def step(
            carry: tuple[jax.Array, Tree, Penalized | None], place: jax.Array
        ) -> tuple[tuple[jax.Array, Tree, Penalized | None], tuple[jax.Array, jax.Array]]:
            token, cache, penalized = carry
            logits, cache = extend(self.model, variables, cache, token[:, None])
            weights = probabilities(logits[:, 0], rules, penalized)
            token = categorical(keys(rules.seed, made + place, PROPOSE), weights)
            if penalized is not None:
                counts = penalized.counts.at[rows, token].add(1)
                penalized = penalized._replace(counts=counts)
            return (token, cache, penalized), (token, weights)

        (token, state, _), (tokens, weights) = jax.lax.scan(
            step, (last, state, penalized), jnp.arange(self.draft_tokens)
        )
        # If all are accepted the next step needs the last one's keys and values, too.
        state = extend(self.model, variables, state, token[:, None])[1]
        return Proposal(tokens.T, jnp.swapaxes(weights, 0, 1), state)


class LookupDraft:
    """What followed the last tokens when the text had them before; no model at all.

    Of the earlier places with the longest common ending, at most `longest` tokens, the latest
    counts. What follows it is proposed, over and over where it reaches the end of the text. Good
    where texts repeat their prompts: summaries, answers about documents, code that is edited.

    Args:
        vocab_size: of the model that judges.
        draft_tokens: how many tokens it proposes in each step.
        longest: how many tokens at most must be the same.
    """

    def __init__(self, vocab_size: int, draft_tokens: int = 4, longest: int = 3) -> None:
        _check_draft_tokens(draft_tokens)
        self.vocab_size = vocab_size
        self.draft_tokens = draft_tokens
        self.longest = longest
        self.variables: Tree = {}

    def init(self, batch_size: int, max_length: int) -> Tree:
        return {
            "ids": jnp.zeros((batch_size, max_length), jnp.int32),
            "length": jnp.zeros(batch_size, jnp.int32),
        }

    def read(self, variables: Tree, state: Tree, ids: jax.Array, lengths: jax.Array) -> Tree:
        rows = jnp.arange(ids.shape[0])[:, None]
        places = state["length"][:, None] + jnp.arange(ids.shape[1])
        written = state["ids"].at[rows, places].set(ids, mode="drop")
        return {"ids": written, "length": state["length"] + lengths}

    def propose(
        self,
        variables: Tree,
        state: Tree,
        last: jax.Array,
        rules: Rules,
        made: jax.Array,
        penalized: Penalized | None,
    ) -> Proposal:
        one = jnp.ones_like(last)
        state = self.read(variables, state, last[:, None], one)
        find = jax.vmap(_continued, in_axes=(0, 0, None, None))
        tokens = find(state["ids"], state["length"], self.draft_tokens, self.longest)
        state = self.read(variables, state, tokens, self.draft_tokens * one)
        return Proposal(tokens, jax.nn.one_hot(tokens, self.vocab_size), state)


def _continued(ids: jax.Array, length: jax.Array, count: int, longest: int) -> jax.Array:
    """Returns how a text [max_length], of which `length` ids count, went on before: [count]."""
    places = jnp.arange(ids.shape[0])
    same = jnp.ones(ids.shape, bool)
    score = places  # a match of one token more outweighs any place
    for back in range(1, longest + 1):
        same &= (jnp.roll(ids, back) == ids[length - back]) & (places >= back)
        score += same * ids.shape[0]
    place = jnp.argmax(jnp.where(places < length, score, -1))
    return ids[place + jnp.arange(count) % (length - place)]


def _check_draft_tokens(draft_tokens: int) -> None:
    if draft_tokens < 1:
        raise UserError(f"draft_tokens (={draft_tokens}) must be at least 1")
