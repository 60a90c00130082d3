"""The programs of an engine, compiled for each shape.

The model's step, and drawing after it; or both several times over, for texts that go on by their
rules alone, so that the host has nothing to do between their tokens.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from axlearn_core.module import Module, functional
from axlearn_core.module.context import Tree
from axlearn_core.parallel import Placement, placing
from axlearn_inference.caches import PAGE_TABLE
from axlearn_inference.caches.rows import RowAxes, RowAxis, put_rows, take_rows
from axlearn_inference.engine.buckets import Shape
from axlearn_inference.engine.paging import shardings
from axlearn_inference.model import Generating, LanguageModel
from axlearn_inference.request import Sampling
from axlearn_inference.sampling import Drawn, Rules, draw, rules

Array = Any  # of jax, numpy, or only its shape

MOST_TOKENS = 16
"""Of a text, drawn by one call of `decode`."""

END_IDS = 4
"""How many of a request's end ids `decode` knows; after others it goes on for nothing."""


class StepInputs(NamedTuple):
    """What one call of the model reads. Rows that are not used have a slot that does not exist."""

    ids: Array  # [rows, ids] int32
    starts: Array  # [rows] int32, how many ids came before
    lengths: Array  # [rows] int32, how many of the ids count
    slots: Array  # [rows] int32
    table: Array  # [rows, pages] int32
    adapters: Array | None  # [rows] int32


class DrawOptions(NamedTuple):
    """What drawing reads beside the rules; None where no row asks for it."""

    in_prompt: Array | None  # [rows, vocab] bool
    counts: Array | None  # [rows, vocab] int32
    mask: Array | None  # [rows, vocab / 32] int32


class Goal(NamedTuple):
    """When decoding comes back to the host. All of it is data: nothing is compiled for it."""

    index: Array  # [rows] int32, how many tokens each text has
    left: Array  # [rows] int32, how many more it may have
    end_ids: Array  # [rows, END_IDS] int32, after which it has no more; -1 fills rows up
    tokens: Array  # [] int32, of each text, at most MOST_TOKENS
    hurry: Array  # [] bool, whether to come back when one text has ended, not only when all have


def unused_inputs(shape: Shape, *, slots: int, num_pages: int, adapters: bool) -> StepInputs:
    """Returns the inputs of a call without any row in use."""
    rows = shape.rows
    return StepInputs(
        ids=np.zeros((rows, shape.ids), np.int32),
        starts=np.zeros(rows, np.int32),
        lengths=np.zeros(rows, np.int32),
        slots=np.full(rows, slots, np.int32),
        table=np.full((rows, shape.pages), num_pages, np.int32),
        adapters=np.full(rows, -1, np.int32) if adapters else None,
    )


def step(
    module: Generating,
    axes: RowAxes,
    placement: Placement | None,
    variables: Tree,
    cache: Tree,
    inputs: StepInputs,
) -> tuple[jax.Array, Tree]:
    """Reads ids and returns the scores of what follows the last of each row, [rows, vocab].

    A sequence that begins has the state of an empty one, whatever its slot held before.
    """
    rows = inputs.ids.shape[0]
    taken = take_rows(cache, axes, inputs.slots)
    empty = module.init_cache(rows, 1, "float32")

    def begin(leaf: jax.Array, at: RowAxis, empty: jax.Array) -> jax.Array:
        if at.axis is None:
            return leaf
        others = [i for i in range(leaf.ndim) if i != at.axis]
        begins = jnp.expand_dims(inputs.starts == 0, others)
        return jnp.where(begins, empty.astype(leaf.dtype), leaf)

    own = {**jax.tree.map(begin, taken, axes, empty), "length": inputs.starts}
    with contextlib.nullcontext() if placement is None else placing(placement):
        (logits, own), _ = functional(
            cast(Module, module),
            state=variables,
            prng_key=None,
            inputs=(inputs.ids, own, inputs.lengths, inputs.adapters, True),
            method="extend",
            provided={PAGE_TABLE: inputs.table},
        )
    return logits[:, 0], put_rows(cache, axes, inputs.slots, own)


def decode(
    step: Callable[[Tree, Tree, StepInputs], tuple[jax.Array, Tree]],
    variables: Tree,
    cache: Tree,
    inputs: StepInputs,
    rules: Rules,
    goal: Goal,
) -> tuple[jax.Array, jax.Array, Tree]:
    """Decodes by a model's `step` and `draw`, from inputs of one id per row, to a goal.

    Returns:
        Tokens, [MOST_TOKENS, rows] int32; how many there are of each row: the rest means nothing,
        and neither does what follows a text's end; and the cache of all tokens but the last.
    """

    def goes_on(carry: Any) -> jax.Array:
        _, _, _, ended, made = carry
        used = inputs.lengths > 0
        comes_back = jnp.where(goal.hurry, (used & ended).any(), (ended | ~used).all())
        more: jax.Array = (made < goal.tokens) & ~comes_back
        return more

    def body(carry: Any) -> Any:
        cache, ids, tokens, ended, made = carry
        now = inputs._replace(ids=ids, starts=inputs.starts + made * inputs.lengths)
        logits, cache = step(variables, cache, now)
        token = draw(logits, rules, goal.index + made).token
        made += 1
        ended |= (token[:, None] == goal.end_ids).any(axis=-1) | (made >= goal.left)
        return cache, token[:, None], tokens.at[made - 1].set(token), ended, made

    rows = inputs.ids.shape[0]
    tokens, ended = jnp.zeros((MOST_TOKENS, rows), jnp.int32), jnp.zeros(rows, bool)
    begin = (cache, jnp.asarray(inputs.ids), tokens, ended, jnp.int32(0))
    cache, _, tokens, _, made = jax.lax.while_loop(goes_on, body, begin)
    return tokens, made, cache


class Programs:
    """Compiled programs by the shapes of their inputs. What is not there is compiled at first use.

    Args:
        module: the model, on a paged cache.
        axes: of the rows of its cache; see `axes_of`.
        model: of whose parameters and placement.
        cache: one like those that come in. On a mesh each array stays split as it is.
    """

    def __init__(self, module: Generating, axes: RowAxes, model: LanguageModel, cache: Tree):
        self._vocab_size = model.vocab_size
        place = model.placement
        self._everywhere = None if place is None else place.sharding()
        of_model = partial(step, module, axes, place)
        self._step = jax.jit(
            of_model,
            donate_argnums=1,
            out_shardings=None if place is None else (self._everywhere, shardings(cache)),
        )
        self._draw = jax.jit(_draw)
        self._decode = jax.jit(
            partial(decode, of_model),
            donate_argnums=1,
            out_shardings=None
            if place is None
            else (self._everywhere, self._everywhere, shardings(cache)),
        )
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._rules: dict[tuple[Sampling, ...], Rules] = {}

    def __len__(self) -> int:
        """How many programs there are."""
        return len(self._compiled)

    def compile_all(
        self,
        variables: Tree,
        cache: Tree,
        steps: Iterable[StepInputs],
        decoding: Iterable[StepInputs],
    ) -> None:
        """Compiles, side by side, for inputs of these shapes, and all ways of drawing after steps.

        Args:
            variables, cache: as calls have them.
            steps: inputs of `step`.
            decoding: inputs of `decode`.
        """
        calls: list[Callable[[], object]] = []
        rows = set()
        for each in steps:
            calls.append(partial(self._compile_step, variables, cache, each))
            rows.add(each.ids.shape[0])
        for each in decoding:
            calls.append(partial(self._compile_decode, variables, cache, each))
        for count in sorted(rows):
            for penalised in (False, True):
                for masked in (False, True):
                    calls.append(partial(self._compile_draw, count, penalised, masked))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in [pool.submit(call) for call in calls]:
                done.result()

    def step(self, variables: Tree, cache: Tree, inputs: StepInputs) -> tuple[jax.Array, Tree]:
        """See `step`; the cache that comes in is used up."""
        result: tuple[jax.Array, Tree] = self._compile_step(variables, cache, inputs)(
            variables, cache, inputs
        )
        return result

    def draw(
        self,
        logits: jax.Array,
        samplings: tuple[Sampling, ...],
        index: Array,
        options: DrawOptions,
    ) -> Drawn:
        """See `sampling.draw`."""
        compiled = self._compile_draw(
            logits.shape[0], options.counts is not None, options.mask is not None
        )
        drawn: Drawn = compiled(logits, self._rules_of(samplings), index, options)
        return drawn

    def decode(
        self,
        variables: Tree,
        cache: Tree,
        inputs: StepInputs,
        samplings: tuple[Sampling, ...],
        goal: Goal,
    ) -> tuple[jax.Array, jax.Array, Tree]:
        """See `decode`; the cache that comes in is used up."""
        result: tuple[jax.Array, jax.Array, Tree] = self._compile_decode(variables, cache, inputs)(
            variables, cache, inputs, self._rules_of(samplings), goal
        )
        return result

    def _rules_of(self, samplings: tuple[Sampling, ...]) -> Rules:
        """The same rows mostly come again."""
        found = self._rules.get(samplings)
        if found is None:
            if len(self._rules) > 64:
                self._rules.clear()
            found = self._rules[samplings] = rules(samplings, self._vocab_size)
        return found

    def _compile_step(self, variables: Tree, cache: Tree, inputs: StepInputs) -> Callable[..., Any]:
        key = (*inputs.ids.shape, inputs.table.shape[1])
        if key not in self._compiled:
            self._compiled[key] = self._step.lower(variables, cache, inputs).compile()
        return self._compiled[key]

    def _compile_decode(
        self, variables: Tree, cache: Tree, inputs: StepInputs
    ) -> Callable[..., Any]:
        rows = inputs.ids.shape[0]
        key = ("decode", rows, inputs.table.shape[1])
        if key not in self._compiled:
            goal = Goal(
                index=_shaped(np.int32, rows),
                left=_shaped(np.int32, rows),
                end_ids=_shaped(np.int32, rows, END_IDS),
                tokens=_shaped(np.int32),
                hurry=_shaped(bool),
            )
            by_rules = rules([Sampling()] * rows, self._vocab_size)
            lowered = self._decode.lower(variables, cache, inputs, by_rules, goal)
            self._compiled[key] = lowered.compile()
        return self._compiled[key]

    def _compile_draw(self, rows: int, penalised: bool, masked: bool) -> Callable[..., Any]:
        key = (rows, penalised, masked)
        if key not in self._compiled:
            size = self._vocab_size
            options = DrawOptions(
                _shaped(bool, rows, size) if penalised else None,
                _shaped(np.int32, rows, size) if penalised else None,
                _shaped(np.int32, rows, -(-size // 32)) if masked else None,
            )
            lowered = self._draw.lower(
                jax.ShapeDtypeStruct((rows, size), np.float32, sharding=self._everywhere),
                rules([Sampling()] * rows, size),
                _shaped(np.int32, rows),
                options,
            )
            self._compiled[key] = lowered.compile()
        return self._compiled[key]


def _draw(logits: jax.Array, rules: Rules, index: jax.Array, options: DrawOptions) -> Drawn:
    return draw(logits, rules, index, **options._asdict())


def _shaped(dtype: DTypeLike, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
