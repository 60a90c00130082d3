"""Reading tokens, and forgetting them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import jax

from axlearn_core.errors import UserError
from axlearn_core.module import Module, functional
from axlearn_core.module.context import Tree
from axlearn_core.parallel import placing
from axlearn_inference.caches import SlidingCache
from axlearn_inference.model import LanguageModel
from axlearn_layers import KVCache, RecurrentLayer


def extend(
    model: LanguageModel,
    variables: Tree,
    cache: Tree,
    ids: jax.Array,
    lengths: jax.Array | None = None,
) -> tuple[jax.Array, Tree]:
    """Reads tokens as `Generating.extend`; `variables`, since compiled code holds no arrays."""
    with contextlib.nullcontext() if model.placement is None else placing(model.placement):
        (logits, cache), _ = functional(
            cast(Module, model.module),
            state=variables,
            prng_key=None,
            inputs=(ids, cache, lengths),
            method="extend",
        )
    return logits, cache


def rewound(cache: Tree, length: jax.Array) -> Tree:
    """Returns a cache that has forgotten all but the first `length` [batch] tokens of each text.

    A cache that is addressed by position needs no more than the number. What stays behind it stands
    at later positions than those of the next queries, where causal masks do not look, and each
    position is written anew in the very call whose queries are the first to see it.
    """
    return {**cache, "length": length}


def check_rewinds(model: LanguageModel, tokens: int) -> None:
    """Refuses a model that `rewound` would not make forget so many tokens.

    Raises:
        UserError: for an encoder-decoder; for recurrent layers, whose state has taken in each token
            for good; and for caches in which new tokens have overwritten older ones, as in those no
            longer than a window.
    """
    model.check_decoder_only("speculative decoding")
    for module in _modules(model.module):
        where = f"{type(module).__name__} ({module.path})"
        if isinstance(module, RecurrentLayer):
            why = f"{where} keeps one state, not one for each token; decode it without a draft"
        elif isinstance(module, KVCache) and module.rewinds < tokens:
            why = f"{where} can forget {int(module.rewinds)} and not {tokens}; "
            if isinstance(module, SlidingCache):
                why += f"give it room, model.**.cache.spare={tokens - 1}, or "
            why += "model.**.cache=contiguous_cache, which forgets any number"
        else:
            continue
        raise UserError(
            f"{model.name} cannot decode speculatively, since it cannot forget tokens that are "
            f"rejected: {why}"
        )


def _modules(module: object) -> Iterator[Module]:
    if isinstance(module, Module):
        yield module
        for child in module.children.values():
            yield from _modules(child)
