"""Depth over several devices: stages of layers that work on different microbatches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import (
    OutputCollection,
    ParameterSpecs,
    capture_with_state,
    current_context,
    emit,
    fold_in_name,
    map_specs,
    no_context,
    scan_layers,
    stacked_initialize,
    stacked_specs,
)
from axlearn_core.module.context import Tree
from axlearn_core.parallel import (
    PipelineShape,
    Work,
    circular,
    current_placement,
    join_rows,
    microbatch_of,
    one_forward_one_backward,
    split_rows,
)
from axlearn_core.training.model import Batch
from axlearn_layers.block import TransformerBlock
from axlearn_layers.flops import flops_per_token
from axlearn_layers.pipeline_outputs import of_microbatches, of_stages
from axlearn_layers.pipeline_schedules import Circular, PipelineSchedule
from axlearn_layers.sequence import SequenceInfo, SequenceLayer
from axlearn_layers.stack import (
    Remat,
    Stack,
    StackedLayer,
    extend_layers,
    stacked_cache,
    unrolled_layers,
    with_remat,
)


class AroundStack(NamedTuple):
    """What a model computes of a microbatch before and after its stack.

    The functions are pure: `capture_with_state` makes them.
    """

    # (state, key, microbatch) -> what the stack reads [rows, seq, dim], side outputs
    begin: Callable[[Tree, jax.Array | None, Batch], tuple[jax.Array, OutputCollection]]
    # (state, key, what the stack gave, microbatch) -> sum of the losses [] float32, side outputs
    finish: Callable[[Tree, jax.Array | None, jax.Array, Batch], tuple[jax.Array, OutputCollection]]
    state: Tree  # the parameters of both
    key: jax.Array | None


class LossOfStack(NamedTuple):
    """The loss of a batch."""

    total: jax.Array  # [] float32, summed over tokens, auxiliary losses included
    auxiliary: jax.Array | None  # [] float32, their part; None where no layer has any
    around: OutputCollection  # side outputs of what is around the stack; its own are emitted


class _Rows(NamedTuple):
    """What is known of a batch's tokens: all of it [batch, ...], or [microbatches, rows, ...]."""

    info: SequenceInfo
    adapter_ids: jax.Array | None


class Pipeline(Stack):
    """The layers of a `Repeat`, cut into stages that compute at the same time.

    A batch is cut into microbatches, of rows i, i + num_microbatches, ...; while one is in a stage,
    others are in the other stages. The result is that of `Repeat`, sums apart. A stage is idle for
    (S - 1) / (M * V + S - 1) of the time, see `bubble`.

    Parameters are [stages, layers per stage, ...]. Stage s holds, in this order, the layers of the
    chunks s, s + S, ..., s + (V - 1) S, each of num_layers / (S * V) layers; `as_repeated` and
    `as_staged` map them, and all trees like them, to those of `Repeat` and back.

    Side outputs have the shapes of `Repeat`: summaries and state updates are means over
    microbatches (of integers, the last one's), module outputs have an axis [num_microbatches]
    behind that of the layers. A microbatch has its own random key, and from it each layer has what
    `Repeat` would give it; what was provided from above is not seen, but `adapter_ids`. With a
    cache, layers are computed one after the other, as in `Repeat`; models that only generate have
    `Repeat` in this place and their parameters `as_repeated`.
    """

    class Config(Stack.Config):
        layer: SequenceLayer.Config = TransformerBlock.default_config()
        num_layers: int = REQUIRED
        remat: Remat.Config | None = None  # of each layer, as in `Repeat`
        num_stages: int = REQUIRED  # S, a multiple of the mesh axes that split "stages"
        num_microbatches: int = REQUIRED  # M; 4 S and more keep the bubble below a fifth
        schedule: PipelineSchedule.Config = Circular.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        self.schedule: PipelineSchedule = cfg.schedule.instantiate()
        repeats = self.schedule.repeats()
        self.shape = PipelineShape(cfg.num_stages, cfg.num_microbatches, repeats)
        self._chunks = cfg.num_stages * repeats
        if cfg.num_layers < 1 or cfg.num_layers % self._chunks:
            rounds = f" times num_repeats (={repeats})" if repeats > 1 else ""
            raise ConfigError(
                f"num_stages (={cfg.num_stages}){rounds} must divide num_layers "
                f"(={cfg.num_layers}), so that every stage has as many layers"
            )
        self.layer: SequenceLayer = self.add_child("layer", cfg.layer.set(input_dim=cfg.input_dim))

    @no_context
    def parameter_specs(self) -> ParameterSpecs:
        stages = self.config.num_stages
        of_stage = stacked_specs(self.layer, self.config.num_layers // stages)
        return {"layer": map_specs(lambda spec: spec.stacked(stages, "stages"), of_stage)}

    @no_context
    def initialize(self, key: jax.Array) -> Tree:
        key = fold_in_name(key, "layer")
        return self.as_staged(
            {"layer": stacked_initialize(self.layer, self.config.num_layers, key)}
        )

    @no_context
    def as_repeated(self, tree: Tree) -> Tree:
        """Maps a tree of [stages, layers per stage, ...] to one of [num_layers, ...]."""
        stages, rounds = self.config.num_stages, self.shape.repeats

        def map_(x: jax.Array) -> jax.Array:
            chunks = jnp.swapaxes(x.reshape(stages, rounds, -1, *x.shape[2:]), 0, 1)
            return chunks.reshape(-1, *x.shape[2:])

        mapped: Tree = jax.tree.map(map_, tree)
        return mapped

    @no_context
    def as_staged(self, tree: Tree) -> Tree:
        """Maps a tree of [num_layers, ...] to one of [stages, layers per stage, ...]."""
        stages, rounds = self.config.num_stages, self.shape.repeats

        def map_(x: jax.Array) -> jax.Array:
            chunks = jnp.swapaxes(x.reshape(rounds, stages, -1, *x.shape[1:]), 0, 1)
            return chunks.reshape(stages, -1, *x.shape[1:])

        mapped: Tree = jax.tree.map(map_, tree)
        return mapped

    @no_context
    def unrolled(self) -> Iterator[StackedLayer]:
        length = self.config.num_layers // self._chunks
        for number in range(self.config.num_layers):
            chunk, place = divmod(number, length)
            repeat, stage = divmod(chunk, self.config.num_stages)
            for layer, path, indices in unrolled_layers(self.layer):
                own = (stage, repeat * length + place)
                yield StackedLayer(layer, ("layer", *path), (*own, *indices))

    @no_context
    def flops_per_token(self, seq_length: int) -> float:
        """All layers alike; what is computed in the bubble does not count."""
        return self.config.num_layers * flops_per_token(self.layer, seq_length)

    @no_context
    def bubble(self) -> float:
        """Returns the fraction of the time in which a stage is idle, (S - 1) / (M * V + S - 1)."""
        return self.shape.bubble

    @no_context
    def microbatches_in_flight(self) -> int:
        """Returns of how many pieces of work a stage keeps its input, or more, at one time."""
        return self.schedule.microbatches_in_flight(self.shape)

    @property
    def owns_loss(self) -> bool:
        """Whether, in training, models have to call `loss` and not `forward`."""
        return self.schedule.owns_loss

    def forward(self, x: jax.Array, info: SequenceInfo) -> jax.Array:
        if self.owns_loss and self.is_training:
            raise ConfigError(
                f"{self.path}.schedule (={type(self.schedule).__name__}) needs a model that hands "
                "its loss to its stack, as CausalLM does; this one, or what is around the stack, "
                "calls forward(). Write schedule=Circular.default_config()"
            )
        self._check_rows(len(x))
        # A bias of the scores is no row's, and may have gradients: all stages get it as it is.
        rows = self._split(_Rows(info._replace(bias=None), self.provided("adapter_ids")))
        run = capture_with_state(self._chunk)
        key = key_of_call()

        def stage(params: Tree, work: Work, x: jax.Array) -> tuple[jax.Array, OutputCollection]:
            mine: _Rows = microbatch_of(rows, work.microbatch)
            mine = mine._replace(info=mine.info._replace(bias=info.bias))
            return run({}, _of_microbatch(key, work.microbatch), x, params, mine, work)

        y, outputs = circular(stage, self._state(), self._split(x), self.shape)
        emit(of_stages(outputs))
        return join_rows(y)

    def loss(
        self, around: AroundStack, batch: Batch, info: SequenceInfo, weights: jax.Array
    ) -> LossOfStack:
        """Returns the loss of a whole batch in training, from its tokens on.

        Args:
            around: what the model computes besides.
            batch: what its functions read, [batch, ...] arrays.
            info: of the batch's tokens, without anything that has a gradient.
            weights: [batch, seq], of the layers' auxiliary losses.
        """
        self._check_rows(len(weights))
        rows = self._split(_Rows(info, self.provided("adapter_ids")))
        data = (rows, self._split(weights), self._split(batch), key_of_call(), around.key)
        run = capture_with_state(self._chunk)

        def stage(params: Tree, data: Any, work: Work, x: jax.Array) -> Any:
            rows, weights, _, key, _ = data
            mine, weights = microbatch_of((rows, weights), work.microbatch)
            key = _of_microbatch(key, work.microbatch)
            y, outputs = run({}, key, x, params, mine, work)
            outputs.losses = jax.tree.map(lambda loss: jnp.sum(weights * loss), outputs.losses)
            return (y, _sum(outputs.losses)), outputs

        def begin(outer: Tree, data: Any, microbatch: jax.Array) -> Any:
            _, _, batch, _, key = data
            key = _of_microbatch(key, microbatch)
            return around.begin(outer, key, microbatch_of(batch, microbatch))

        def finish(outer: Tree, data: Any, microbatch: jax.Array, y: jax.Array) -> Any:
            _, _, batch, _, key = data
            key = _of_microbatch(key, microbatch)
            return around.finish(outer, key, y, microbatch_of(batch, microbatch))

        total, stages, before, after = one_forward_one_backward(
            stage, begin, finish, self._state(), around.state, data, self.shape
        )
        if before.losses or after.losses:
            raise ConfigError(
                f"{self.path}.schedule (={type(self.schedule).__name__}) takes auxiliary losses of "
                "the stack's layers only, and what is around the stack has some. Write "
                "schedule=Circular.default_config()"
            )
        auxiliary = _sum(stages.losses) if stages.losses else None
        emit(of_stages(dataclasses.replace(stages, losses={})))
        outputs = of_microbatches(before)
        outputs.merge(of_microbatches(after), "the model around " + self.path)
        return LossOfStack(total, auxiliary, outputs)

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> Tree:
        one = self.layer.init_cache(batch_size, max_length, dtype)
        return stacked_cache(one, self.config.num_layers)

    def extend(self, x: jax.Array, cache: Tree, info: SequenceInfo) -> tuple[jax.Array, Tree]:
        state = self.as_repeated(self._state())
        count = self.config.num_layers
        return extend_layers(self.layer, x, cache, info, count=count, state=state)

    def _chunk(self, x: jax.Array, params: Tree, rows: _Rows, work: Work) -> jax.Array:
        """Computes one chunk of a stage's layers for one microbatch."""
        cfg = self.config
        length = cfg.num_layers // self._chunks
        if self.shape.repeats > 1:
            params = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, work.repeat * length, length), params
            )
        number = work.repeat * cfg.num_stages + work.stage

        def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return with_remat(self.layer, cfg.remat)(x, rows.info), None

        indices = number * length + jnp.arange(length)
        with self.provide("adapter_ids", rows.adapter_ids):
            x, _ = scan_layers(self.layer, body, x, count=length, state=params, indices=indices)
        return x

    def _state(self) -> Tree:
        state: Tree = current_context().state.get("layer", {})
        return state

    def _split(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: split_rows(x, self.config.num_microbatches), tree)

    def _check_rows(self, rows: int) -> None:
        placement = current_placement()
        count, ways = self.config.num_microbatches, placement.ways("batch") if placement else 1
        if rows % (count * ways):
            parts = f" times the {ways} parts that the mesh makes of a batch" if ways > 1 else ""
            raise ConfigError(
                f"{self.path}.num_microbatches (={count}){parts} must divide the rows that come in "
                f"at a time (={rows}): those of a batch, or of one of its accumulation steps"
            )


def key_of_call() -> jax.Array | None:
    """Returns the random key of the current call, None if it has no randomness."""
    call = current_context()
    return None if call.key is None else call.random_key()


def _of_microbatch(key: jax.Array | None, microbatch: jax.Array) -> jax.Array | None:
    if key is None:
        return None
    return jax.random.fold_in(fold_in_name(key, "#microbatch"), microbatch)


def _sum(losses: Tree) -> jax.Array:
    total: jax.Array = sum(map(jnp.sum, jax.tree.leaves(losses)), jnp.float32(0))
    return total
