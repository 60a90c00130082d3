"""Generation in rounds of several tokens, which a draft proposes and the model judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.errors import UserError
from axlearn_core.module.context import Tree
from axlearn_inference.decoding.programs import Asked, Told, bucket, padded
from axlearn_inference.model import LanguageModel
from axlearn_inference.sampling import with_log_probabilities
from axlearn_inference.speculative.acceptance import Penalized, accept, probabilities
from axlearn_inference.speculative.drafts import Draft, ModelDraft, Proposal
from axlearn_inference.speculative.reading import check_rewinds, extend, rewound

ROUNDS = 8
"""Rounds per call of the compiled loop, at most: many for speed, few to see tokens come."""


class Speculation(NamedTuple):
    """Texts under way. Model and draft have read all of their tokens but the last."""

    cache: Tree
    draft: Tree
    last: jax.Array  # [batch] int32
    made: jax.Array  # [batch] int32, how many tokens follow each prompt
    counts: jax.Array | None  # [batch, vocab] int32, how often each text holds each id


class Judged(NamedTuple):
    """What is told of rounds, [rounds, batch, k + 1] each."""

    told: Told
    lengths: jax.Array  # [rounds, batch] int32, how many of a round's tokens are the text's


@dataclass
class Statistics:
    """How well a draft does.

    Attributes:
        steps: rounds of each text, summed.
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

    In each round the draft proposes k tokens for each text, the model scores all of them at once,
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
        compiled = partial(jax.jit, static_argnames=("logprobs", "top"), donate_argnames="texts")
        self._begin = jax.jit(self._read, static_argnames="max_length")
        self._rounds = compiled(self._go_on)
        # A round in two halves, so that masks are made of what is proposed.
        self._ahead = jax.jit(self._propose, donate_argnames="texts")
        self._judge = compiled(self._settle)

    @property
    def _variables(self) -> tuple[Tree, Tree]:
        return self.target.variables, self.draft.variables

    def begin(self, prompts: Sequence[Sequence[int]], asked: Asked, max_tokens: int) -> Speculation:
        """Reads prompts of any lengths, to continue each by up to `max_tokens`."""
        ids, lengths = padded(prompts)
        # Besides prompt and text the caches hold what is proposed beyond the last token.
        most = bucket(int(lengths.max()) + max_tokens + self.draft.draft_tokens)
        begun = self._begin(
            self._variables, ids, lengths, asked, max_length=max(most, ids.shape[1])
        )
        placed: Speculation = jax.device_put(begun, _places(begun))
        return placed

    def rounds(
        self,
        texts: Speculation,
        asked: Asked,
        most: NDArray[np.int32],
        ended: NDArray[np.bool_],
        count: int,
        **options: bool,
    ) -> tuple[Speculation, Judged]:
        """Continues each text in some rounds by 1 to k + 1 tokens each, until all have ended.

        Args:
            texts: as `begin` or the call before returned them; used up.
            asked: of the rows.
            most: [batch], how many tokens at most follow each prompt.
            ended: [batch], rows of which nothing more is wanted; they stay as they are.
            count: of rounds; of more than `ROUNDS` so many are made.
            options: `logprobs` and `top` as `Programs` takes them.
        """
        places = _places(texts)
        count = min(count, ROUNDS)
        grown, judged, made = self._rounds(
            self._variables, texts, asked, most, ended, np.int32(count), **options
        )
        judged, made = jax.device_get((judged, made))
        # Were they elsewhere on a mesh, the next call would be compiled anew for it.
        return jax.device_put(grown, places), jax.tree.map(lambda x: x[:made], judged)

    def propose(self, texts: Speculation, asked: Asked) -> tuple[Proposal, jax.Array, Speculation]:
        """Returns what is proposed, scores [batch, k + 1, vocab], and the texts for `judge`."""
        ahead: tuple[Proposal, jax.Array, Speculation] = self._ahead(self._variables, texts, asked)
        return ahead

    def judge(
        self,
        proposal: Proposal,
        logits: jax.Array,
        texts: Speculation,
        asked: Asked,
        ended: NDArray[np.bool_],
        mask: NDArray[np.int32],
        **options: bool,
    ) -> tuple[Speculation, Judged]:
        """Finishes a round that `propose` has begun.

        Args:
            proposal, logits, texts: as `propose` returned them; texts are used up.
            asked, ended, options: as for `rounds`.
            mask: [batch, k + 1, ceil(vocab / 32)], which ids may stand at each place.
        """
        places = _places(texts)
        grown, judged = self._judge(proposal, logits, texts, asked, ended, mask, **options)
        judged = jax.tree.map(lambda x: x[None], jax.device_get(judged))
        return jax.device_put(grown, places), judged

    def count(self, lengths: NDArray[np.int32]) -> None:
        """Adds rounds to the statistics, by how many tokens they gave; 0 is a text that stayed."""
        lengths = lengths[lengths > 0]
        self.statistics.steps += lengths.size
        self.statistics.proposed += self.draft.draft_tokens * lengths.size
        self.statistics.accepted += int(lengths.sum()) - lengths.size

    # What is compiled.

    def _read(
        self,
        variables: tuple[Tree, Tree],
        ids: jax.Array,
        lengths: jax.Array,
        asked: Asked,
        *,
        max_length: int,
    ) -> Speculation:
        """Has model and draft read prompts, [batch, seq] padded at their end, but the last ids."""
        own, drafts = variables
        batch = ids.shape[0]
        cache = self.target.module.init_cache(batch, max_length, self.target.dtype)
        _, cache = extend(self.target, own, cache, ids, lengths - 1)
        draft = self.draft.read(drafts, self.draft.init(batch, max_length), ids, lengths - 1)
        return Speculation(
            cache=cache,
            draft=draft,
            last=jnp.take_along_axis(ids, lengths[:, None] - 1, axis=1)[:, 0],
            made=jnp.zeros(batch, jnp.int32),
            counts=None if asked.in_prompt is None else jnp.zeros(asked.in_prompt.shape, jnp.int32),
        )

    def _go_on(
        self,
        variables: tuple[Tree, Tree],
        texts: Speculation,
        asked: Asked,
        most: jax.Array,
        ended: jax.Array,
        count: jax.Array,
        *,
        logprobs: bool,
        top: bool,
    ) -> tuple[Speculation, Judged, jax.Array]:
        """See `rounds`. What is told has `ROUNDS` rounds, of which the last result counts."""

        def one(texts: Speculation, ended: jax.Array) -> tuple[Speculation, Judged]:
            proposal, logits, texts = self._propose(variables, texts, asked)
            return self._settle(
                proposal, logits, texts, asked, ended, None, logprobs=logprobs, top=top
            )

        def goes_on(carry: Any) -> jax.Array:
            _, _, ended, made = carry
            more: jax.Array = (made < count) & ~ended.all()
            return more

        def body(carry: Any) -> Any:
            texts, all_, ended, made = carry
            texts, now = one(texts, ended)
            all_ = jax.tree.map(lambda whole, part: whole.at[made].set(part), all_, now)
            return texts, all_, ended | _ends(now, asked) | (texts.made >= most), made + 1

        empty = jax.tree.map(
            lambda x: jnp.zeros((ROUNDS, *x.shape), x.dtype), jax.eval_shape(one, texts, ended)[1]
        )
        start = texts, empty, ended, jnp.int32(0)
        texts, judged, _, made = jax.lax.while_loop(goes_on, body, start)
        return texts, judged, made

    def _propose(
        self, variables: tuple[Tree, Tree], texts: Speculation, asked: Asked
    ) -> tuple[Proposal, jax.Array, Speculation]:
        own, drafts = variables
        proposal = self.draft.propose(
            drafts, texts.draft, texts.last, asked.rules, texts.made, _penalized(texts, asked)
        )
        ids = jnp.concatenate([texts.last[:, None], proposal.tokens], axis=1)
        logits, cache = extend(self.target, own, texts.cache, ids)
        # Theirs is the length before, until it is known how much stays.
        length = texts.cache["length"]
        texts = texts._replace(cache=rewound(cache, length), draft=rewound(proposal.state, length))
        return proposal._replace(state={}), logits, texts

    def _settle(
        self,
        proposal: Proposal,
        logits: jax.Array,
        texts: Speculation,
        asked: Asked,
        ended: jax.Array,
        mask: jax.Array | None,
        *,
        logprobs: bool,
        top: bool,
    ) -> tuple[Speculation, Judged]:
        penalized = _penalized(texts, asked)
        target = _at_each_place(logits, proposal.tokens, asked, penalized, mask)
        tokens, lengths = accept(
            proposal.tokens, proposal.probabilities, target, asked.rules.seed, texts.made
        )
        lengths = jnp.where(ended, 0, lengths)
        last = jnp.take_along_axis(tokens, lengths[:, None] - 1, axis=1)[:, 0]
        counts, length = texts.counts, texts.cache["length"] + lengths
        if counts is not None:
            stays = jnp.arange(tokens.shape[1]) < lengths[:, None]
            counts = counts.at[jnp.arange(len(tokens))[:, None], tokens].add(stays)
        grown = Speculation(
            cache=rewound(texts.cache, length),
            draft=rewound(texts.draft, length),
            last=jnp.where(ended, texts.last, last),
            made=texts.made + lengths,
            counts=counts,
        )
        drawn = jax.vmap(with_log_probabilities)(logits, tokens)
        told = Told(
            tokens,
            drawn.logprob if logprobs else None,
            drawn.top_tokens if top else None,
            drawn.top_logprobs if top else None,
        )
        return grown, Judged(told, lengths)


def _places(texts: Speculation) -> Any:
    return jax.tree.map(lambda x: x.sharding, texts)


def _penalized(texts: Speculation, asked: Asked) -> Penalized | None:
    if texts.counts is None:
        return None
    assert asked.in_prompt is not None
    return Penalized(asked.in_prompt, texts.counts)


def _ends(judged: Judged, asked: Asked) -> jax.Array:
    """Returns which texts [batch] have an end id among the tokens of a round."""
    tokens = judged.told.token
    theirs = jnp.arange(tokens.shape[1]) < judged.lengths[:, None]
    ends = (tokens[:, :, None] == asked.end_ids[:, None, :]).any(axis=-1)
    return (ends & theirs).any(axis=-1)


def _at_each_place(
    logits: jax.Array,
    proposed: jax.Array,
    asked: Asked,
    penalized: Penalized | None,
    mask: jax.Array | None,
) -> jax.Array:
    """Returns what the model draws from after the last token and each that is proposed.

    Args:
        logits: [batch, k + 1, vocab].
        proposed: [batch, k].
        asked: of each row.
        penalized: before all of them.
        mask: [batch, k + 1, ceil(vocab / 32)].
    """
    batch, places, vocab = logits.shape
    of_places = partial(jnp.repeat, repeats=places, axis=0)  # [batch, ...] -> [batch * places, ...]
    if penalized is not None:
        new = jnp.cumsum(jax.nn.one_hot(proposed, vocab, dtype=jnp.int32), axis=1)
        new = jnp.pad(new, ((0, 0), (1, 0), (0, 0))).reshape(-1, vocab)
        in_prompt, counts = jax.tree.map(of_places, penalized)
        penalized = Penalized(in_prompt, counts + new)
    rules = jax.tree.map(of_places, asked.rules)
    if mask is not None:
        mask = mask.reshape(batch * places, -1)
    flat = probabilities(logits.reshape(-1, vocab), rules, penalized, mask)
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
