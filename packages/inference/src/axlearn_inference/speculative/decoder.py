"""Generation in steps of several tokens, which a draft proposes and the model judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import Sampling
from axlearn_inference.sampling import Rules
from axlearn_inference.speculative.acceptance import Accepted, Penalized, accept, probabilities
from axlearn_inference.speculative.drafts import Draft, ModelDraft
from axlearn_inference.speculative.reading import check_rewinds, extend, rewound


class Speculation(NamedTuple):
    """Texts under way. Model and draft have read all of their tokens but the last."""

    cache: Tree
    draft: Tree
    last: jax.Array  # [batch] int32
    made: jax.Array  # [batch] int32, how many tokens follow each prompt
    penalized: Penalized | None  # None if no row has penalties


@dataclass
class Statistics:
    """How well a draft does.

    Attributes:
        steps: of each text, summed.
        proposed: tokens.
        accepted: those that stayed.
    """

    steps: int = 0
    proposed: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float:
        """The share of the proposed tokens that stayed."""
        return self.accepted / max(self.proposed, 1)

    @property
    def tokens_per_step(self) -> float:
        """How many tokens a text grows by whenever the model reads its weights."""
        return 1 + self.accepted / max(self.steps, 1)


class SpeculativeDecoder:
    """Speculative decoding (arXiv:2211.17192, 2302.01318).

    In each step the draft proposes k tokens for each text, the model scores all of them at once,
    and some of them stay, from none to all, with one more of the model's own: see `accept`. All of
    `Sampling` holds, penalties too: each place is judged as if what is proposed before it were the
    text. So greedy texts are those of the model alone, and sampled ones have its distribution, but
    are others than without a draft for the same seed. (The scores of a token must not depend on
    how many are read at once: mixtures of experts that drop tokens are not exact; and two tokens
    whose scores differ in their last digits may change places.)

    Args:
        target: the model.
        draft: proposes.

    Raises:
        UserError: if the vocabularies differ, or the model cannot forget what is rejected.
    """

    def __init__(self, target: LanguageModel, draft: Draft) -> None:
        check_rewinds(target, draft.draft_tokens)
        _check_vocabularies(target, draft)
        self.target = target
        self.draft = draft
        self.statistics = Statistics()
        self._begin = jax.jit(self._read, donate_argnums=1)
        self._step = jax.jit(self._judge, donate_argnums=1)

    @property
    def room(self) -> int:
        """How many positions a cache needs besides those of prompt and text."""
        return self.draft.draft_tokens

    def begin(
        self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], max_tokens: int
    ) -> Speculation:
        """Reads prompts of any lengths, to continue each by up to `max_tokens`."""
        lengths = np.array([len(prompt) for prompt in prompts])
        longest = int(lengths.max())
        ids = np.zeros((len(prompts), longest), np.int32)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        size = (len(prompts), longest + max_tokens + self.room)
        texts = Speculation(
            cache=self.target.module.init_cache(*size, self.target.dtype),
            draft=self.draft.init(*size),
            last=jnp.asarray(ids[np.arange(len(prompts)), lengths - 1]),
            made=jnp.zeros(len(prompts), jnp.int32),
            penalized=self._penalized(prompts)
            if any(each.penalises for each in samplings)
            else None,
        )
        variables = self.target.variables, self.draft.variables
        begun = self._begin(variables, texts, ids, jnp.asarray(lengths - 1, jnp.int32))
        placed: Speculation = jax.device_put(begun, _places(begun))
        return placed

    def step(self, texts: Speculation, rules: Rules) -> tuple[Speculation, Accepted]:
        """Continues each text by 1 to k + 1 tokens. `texts` is used up."""
        variables = self.target.variables, self.draft.variables
        places = _places(texts)
        grown, accepted = self._step(variables, texts, rules)
        # Were they elsewhere on a mesh, the next step would be compiled anew for it.
        return jax.device_put(grown, places), accepted

    def told(self, accepted: Accepted, live: Sequence[bool]) -> list[list[int]]:
        """Returns the ids that a step gave each text, and counts those that are still wanted."""
        tokens, lengths = jax.device_get(accepted)
        for length in lengths[np.array(live)].tolist():
            self.statistics.steps += 1
            self.statistics.proposed += self.draft.draft_tokens
            self.statistics.accepted += length - 1
        return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]

    def _penalized(self, prompts: Sequence[Sequence[int]]) -> Penalized:
        in_prompt = np.zeros((len(prompts), self.target.vocab_size), bool)
        for row, prompt in enumerate(prompts):
            in_prompt[row, list(prompt)] = True
        return Penalized(jnp.asarray(in_prompt), jnp.zeros(in_prompt.shape, jnp.int32))

    # What is compiled.

    def _read(
        self, variables: tuple[Tree, Tree], texts: Speculation, ids: jax.Array, lengths: jax.Array
    ) -> Speculation:
        """Has model and draft read the first `lengths` of ids [batch, seq]."""
        own, drafts = variables
        _, cache = extend(self.target, own, texts.cache, ids, lengths)
        draft = self.draft.read(drafts, texts.draft, ids, lengths)
        return texts._replace(cache=cache, draft=draft)

    def _judge(
        self, variables: tuple[Tree, Tree], texts: Speculation, rules: Rules
    ) -> tuple[Speculation, Accepted]:
        own, drafts = variables
        cache, draft, last, made, penalized = texts
        proposal = self.draft.propose(drafts, draft, last, rules, made, penalized)
        ids = jnp.concatenate([last[:, None], proposal.tokens], axis=1)
        logits, extended = extend(self.target, own, cache, ids)
        target = _at_each_place(logits, proposal.tokens, rules, penalized)
        accepted = accept(proposal.tokens, proposal.probabilities, target, rules.seed, made)

        tokens, lengths = accepted
        length = cache["length"] + lengths
        if penalized is not None:
            stays = jnp.arange(tokens.shape[1]) < lengths[:, None]
            counts = penalized.counts.at[jnp.arange(len(tokens))[:, None], tokens].add(stays)
            penalized = penalized._replace(counts=counts)
        grown = Speculation(
            cache=rewound(extended, length),
            draft=rewound(proposal.state, length),
            last=jnp.take_along_axis(tokens, lengths[:, None] - 1, axis=1)[:, 0],
            made=made + lengths,
            penalized=penalized,
        )
        return grown, accepted


def _places(texts: Speculation) -> Any:
    return jax.tree.map(lambda x: x.sharding, texts)


def _at_each_place(
    logits: jax.Array, proposed: jax.Array, rules: Rules, penalized: Penalized | None
) -> jax.Array:
    """Returns what the model draws from after the last token and each that is proposed.

    Args:
        logits: [batch, k + 1, vocab].
        proposed: [batch, k].
        rules: of each row.
        penalized: before all of them.
    """
    batch, places, vocab = logits.shape

    def of_places(x: jax.Array) -> jax.Array:
        """[batch, ...] -> [batch * places, ...]"""
        return jnp.repeat(x, places, axis=0)

    if penalized is not None:
        new = jnp.cumsum(jax.nn.one_hot(proposed, vocab, dtype=jnp.int32), axis=1)
        new = jnp.pad(new, ((0, 0), (1, 0), (0, 0))).reshape(-1, vocab)
        in_prompt, counts = jax.tree.map(of_places, penalized)
        penalized = Penalized(in_prompt, counts + new)
    rules = jax.tree.map(of_places, rules)
    flat = probabilities(logits.reshape(-1, vocab), rules, penalized)
    return flat.reshape(batch, places, vocab)


def _check_vocabularies(target: LanguageModel, draft: Draft) -> None:
    if draft.vocab_size != target.vocab_size:
        raise UserError(
            f"the draft's vocabulary (={draft.vocab_size}) must be that of {target.name} "
            f"(={target.vocab_size}): choose a draft with the same tokenizer"
        )
    own = target.tokenizer
    other = draft.model.tokenizer if isinstance(draft, ModelDraft) else None
    if own is not None and other is not None and own.fingerprint() != other.fingerprint():
        raise UserError(
            f"the draft's tokenizer is another than that of {target.name}: the same id would be "
            "another text; choose a draft with the same tokenizer"
        )
