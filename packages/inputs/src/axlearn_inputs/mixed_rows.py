"""Which input the next row comes from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from axlearn_inputs.packers import Row
from axlearn_inputs.row_stream import RowStream

Exhausted = Literal["stop", "drop"]

_logger = logging.getLogger(__name__)


class MixedRows:
    """A `RowStream` over several of them.

    Its state is

        row       rows so far
        drawn     of them, by input
        lately    the same since the weights changed or an input ended
        ended     the inputs that are exhausted
        inputs    the state of each

    Args:
        streams: by name.
        weights: by the row from which on they hold, in order; each adds up to 1.
        exhausted: what follows when a stream ends.
    """

    def __init__(
        self,
        streams: Mapping[str, RowStream],
        weights: Mapping[int, Mapping[str, float]],
        exhausted: Exhausted,
    ):
        self._streams, self._weights, self._exhausted = streams, weights, exhausted
        self._row = 0
        self._drawn = dict.fromkeys(streams, 0)
        self._lately = dict.fromkeys(streams, 0)
        self._ended: list[str] = []

    def take(self, wanted: bool) -> Row | None:
        if self._row in self._weights:
            self._lately = dict.fromkeys(self._streams, 0)
        while True:
            name = self._next_input()
            try:
                row = self._streams[name].take(wanted)
            except StopIteration:
                self._end(name)
                continue
            self._row += 1
            self._drawn[name] += 1
            self._lately[name] += 1
            return row

    def get_state(self) -> dict[str, Any]:
        return {
            "row": self._row,
            "drawn": dict(self._drawn),
            "lately": dict(self._lately),
            "ended": list(self._ended),
            "inputs": {name: stream.get_state() for name, stream in self._streams.items()},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._row = state["row"]
        self._drawn, self._lately = dict(state["drawn"]), dict(state["lately"])
        self._ended = list(state["ended"])
        for name, stream in self._streams.items():
            stream.set_state(state["inputs"][name])

    def figures(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Returns of each input its share of the rows, whether it has ended, and its figures."""
        result: dict[str, float] = {}
        for name, stream in self._streams.items():
            result[f"{name}/share"] = state["drawn"][name] / max(state["row"], 1)
            result[f"{name}/exhausted"] = float(name in state["ended"])
            for what, value in stream.figures(state["inputs"][name]).items():
                result[f"{name}/{what}"] = value
        return result

    def _next_input(self) -> str:
        """Returns the input with the largest deficit weight_i * (n + 1) - drawn_i.

        Nothing random: so the rates are kept more closely than by drawing, and alike everywhere.

        Raises:
            StopIteration: if no input with a weight is left.
        """
        if self._ended and self._exhausted == "stop":
            raise StopIteration
        start = max(row for row in self._weights if row <= self._row)
        weights = {n: w for n, w in self._weights[start].items() if w and n not in self._ended}
        if not weights:
            raise StopIteration
        total = sum(weights.values())
        due = (sum(self._lately.values()) + 1) / total
        return max(weights, key=lambda name: weights[name] * due - self._lately[name])

    def _end(self, name: str) -> None:
        self._ended.append(name)
        self._lately = dict.fromkeys(self._streams, 0)
        follows = "the mixture ends" if self._exhausted == "stop" else "the others go on without it"
        _logger.warning(
            "input %r of the mixture is exhausted after %d of its rows: %s",
            name,
            self._drawn[name],
            follows,
        )
