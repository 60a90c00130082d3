"""Continues a prompt, token by token, with the model's own cache."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from axlearn_core.config import ConfigError
from axlearn_core.module import functional
from axlearn_core.training.model import Model
from axlearn_core.training.state import TrainState, Tree, merge_trees
from axlearn_core.training.step import cast_floats

_CHUNK = 16  # tokens per call of the compiled loop: many for speed, few to see them come


@runtime_checkable
class Generating(Protocol):
    """A model that can read tokens one after the other."""

    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        """Returns what is remembered of sequences that are empty and will have `max_length`."""
        ...

    def extend(self, input_ids: jax.Array, cache: Tree) -> tuple[jax.Array, Tree]:
        """Reads further tokens, [batch, seq] int.

        Returns:
            [batch, seq, vocab] scores of the token after each of them, and the new cache.
        """
        ...


def sample(
    model: Model,
    state: TrainState,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    compute_dtype: str | None = None,
) -> Iterator[int]:
    """Returns the ids that follow a prompt, each as soon as it is there.

    Args:
        model: one that is `Generating`.
        state: holds its parameters.
        prompt: at least one id.
        max_tokens: how many ids.
        temperature: divides the scores; 0 always takes the most likely token.
        top_k: draw from so many of the most likely tokens; None from all.
        seed: the same seed and prompt give the same ids.
        compute_dtype: in which the model computes, such as "bfloat16".

    Raises:
        ConfigError: if the model cannot generate.
    """
    if not isinstance(model, Generating):
        raise ConfigError(
            f"{type(model).__qualname__} cannot generate: it has no init_cache and extend "
            "(see axlearn_core.training.sampling.Generating)"
        )
    params = cast_floats(state.params, model.parameter_specs(), compute_dtype)
    variables = merge_trees(params, state.module_state)
    draw = functools.partial(_draw, temperature=temperature, top_k=top_k)
    dtype = compute_dtype or model.config.dtype
    return _continue(model, variables, prompt, max_tokens, dtype, draw, jax.random.key(seed))


def _continue(
    model: Any,
    variables: Tree,
    prompt: Sequence[int],
    max_tokens: int,
    dtype: str,
    draw: Callable[[jax.Array, jax.Array], jax.Array],
    key: jax.Array,
) -> Iterator[int]:
    chunks = -(-max_tokens // _CHUNK)
    cache = model.init_cache(1, len(prompt) + chunks * _CHUNK, dtype)

    def following(ids: jax.Array, cache: Tree, variables: Tree, index: Any) -> Any:
        """Returns the token [1] after the last of `ids`, and the new cache."""
        (logits, cache), _ = functional(
            model, state=variables, prng_key=None, inputs=(ids, cache), method="extend"
        )
        return draw(logits[:, -1], jax.random.fold_in(key, index)), cache

    @functools.partial(jax.jit, donate_argnums=1)
    def decode(token: jax.Array, cache: Tree, variables: Tree, start: jax.Array) -> Any:
        def step(carry: tuple[jax.Array, Tree], index: jax.Array) -> Any:
            token, cache = following(carry[0][:, None], carry[1], variables, index)
            return (token, cache), token[0]

        return jax.lax.scan(step, (token, cache), start + jnp.arange(_CHUNK))

    ids = jnp.asarray(prompt, jnp.int32)[None]
    token, cache = jax.jit(following, donate_argnums=1)(ids, cache, variables, 0)
    yield int(token[0])
    for start in range(1, max_tokens, _CHUNK):
        (token, cache), tokens = decode(token, cache, variables, jnp.int32(start))
        yield from map(int, tokens[: max_tokens - start])


def _draw(logits: jax.Array, key: jax.Array, temperature: float, top_k: int | None) -> jax.Array:
    """Draws ids [batch] by scores [batch, vocab]."""
    if temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    scores = logits.astype(jnp.float32) / temperature
    if top_k is not None and top_k < scores.shape[-1]:
        lowest = jax.lax.top_k(scores, top_k)[0][:, -1:]
        scores = jnp.where(scores < lowest, -jnp.inf, scores)
    return jax.random.categorical(key, scores).astype(jnp.int32)
