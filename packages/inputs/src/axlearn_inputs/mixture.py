"""A mixture of inputs by stated weights, which may change at a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.training.input import Input
from axlearn_inputs.mixed_rows import MixedRows
from axlearn_inputs.row_stream import HasRowStream, RowStreamInput
from axlearn_inputs.tokenizers import Tokenizer


class MixtureInput(RowStreamInput):
    """Takes each row of a batch from one of several inputs.

    The next row comes from the input that is furthest behind its weight: after n rows input i has
    given n * weight_i of them, to within a few rows, where weights are fractions of their sum. All
    rows have the same length, so these are also fractions of the tokens, padding included.

    A pass over an input is its own affair: one with `num_epochs=None` begins again, any number of
    times. When one with a limited number ends, `exhausted` says what happens: the mixture ends,
    too, or it goes on with the others by what their weights are to each other.
    """

    class Config(RowStreamInput.Config):
        inputs: dict[str, Input.Config] = REQUIRED  # by names of your own
        # By the step (a string, as JSON has them) from which on they hold: {"0": {"web": 0.9,
        # "books": 0.1}, "1000": {...}}. An input that is not named has the weight 0.
        weights: dict[str, dict[str, float]] = REQUIRED
        exhausted: Literal["stop", "drop"] = "stop"

    def __init__(self, config: Config):
        super().__init__(config)
        if not config.inputs:
            raise ConfigError("inputs is empty: a mixture needs at least one")
        self._inputs = {name: _built(name, cfg, config) for name, cfg in config.inputs.items()}
        self._weights = _checked_weights(config.weights, list(config.inputs))
        first = next(iter(self._inputs.values()))
        self._seq_len: int = cast(Input, first).batch_shape()["input_ids"][0][1]
        self._pad_id = first.pad_id
        self._tokenizer = _shared_tokenizer(cast(Mapping[str, Input], self._inputs))
        for name, part in self._inputs.items():
            length = cast(Input, part).batch_shape()["input_ids"][0][1]
            if length != self._seq_len:
                raise ConfigError(
                    f"inputs.{name} has rows of {length}, and {next(iter(self._inputs))} of "
                    f"{self._seq_len}: a batch has rows of one length"
                )

    @property
    def seq_len(self) -> int:
        return self._seq_len

    @property
    def pad_id(self) -> int:
        return self._pad_id

    def row_stream(self) -> MixedRows:
        cfg = self.config
        return MixedRows(
            {name: part.row_stream() for name, part in self._inputs.items()},
            {step * cfg.batch_size: weights for step, weights in self._weights.items()},
            cfg.exhausted,
        )

    def describe(self) -> dict[str, Any]:
        return {
            "inputs": {name: cast(Input, part).describe() for name, part in self._inputs.items()},
            "weights": dict(self.config.weights),
            "batch_size": self.config.batch_size,
            "exhausted": self.config.exhausted,
        }

    def tokenizer(self) -> Tokenizer | None:
        return self._tokenizer


def _built(name: str, cfg: Input.Config, mixture: MixtureInput.Config) -> HasRowStream:
    if cfg.batch_size != mixture.batch_size:
        raise ConfigError(
            f"inputs.{name}.batch_size (={cfg.batch_size}) must be the mixture's "
            f"(={mixture.batch_size}), whose batches hold the rows of all inputs"
        )
    part = cfg.instantiate()
    if not isinstance(part, HasRowStream):
        raise ConfigError(
            f"inputs.{name} is a {type(part).__name__}, which has no row_stream() and pad_id, as "
            "an input needs that is to be mixed"
        )
    return part


def _checked_weights(
    weights: Mapping[str, Mapping[str, float]], names: list[str]
) -> dict[int, dict[str, float]]:
    """Returns weights by step, of which each step's add up to 1."""
    result = {}
    for step, of_step in weights.items():
        if not step.isdecimal():
            raise ConfigError(f"weights.{step}: expected a step as its name, such as '1000'")
        if unknown := [name for name in of_step if name not in names]:
            raise ConfigError(
                f"weights.{step}.{unknown[0]}: there is no such input; there are {', '.join(names)}"
            )
        total = sum(of_step.values())
        if min(of_step.values(), default=0) < 0 or not total > 0:
            raise ConfigError(f"weights.{step}: expected weights from 0, and one above 0")
        result[int(step)] = {name: of_step.get(name, 0.0) / total for name in names}
    if 0 not in result:
        raise ConfigError("weights must say how it begins: {'0': {name: weight, ...}}")
    return dict(sorted(result.items()))


def _shared_tokenizer(inputs: Mapping[str, Input]) -> Tokenizer | None:
    found = {name: part.tokenizer() for name, part in inputs.items()}
    prints = {name: t.fingerprint() for name, t in found.items() if t is not None}
    if len(set(prints.values())) > 1:
        shown = ", ".join(f"{name}: {value[:12]}" for name, value in prints.items())
        raise ConfigError(
            f"the inputs have different tokenizers, so their ids mean different things ({shown})"
        )
    return next((t for t in found.values() if t is not None), None)
