"""The curves of a report: their data for the script that draws them, and tables of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from axlearn_core.cli.page import details, table
from axlearn_core.observe.history import Run
from axlearn_core.observe.progress import count, size
from axlearn_core.observe.series import Series
from axlearn_core.observe.sessions import is_fault

COLOURS = "abdcefgh"  # of runs, or of the curves of the only one
_POINTS = 60_000  # of all curves of a page together: about a megabyte
_MOST_OF_ONE, _FEWEST_OF_ONE = 1200, 60
_ROWS = 24  # of a table of numbers
_FORMATS = {"tokens_per_second": "count", "memory_bytes": "bytes", "memory_peak_bytes": "bytes"} | {
    name: "percent" for name in ("mfu", "data_wait", "goodput", "device_utilization")
}
_TITLES = {
    "loss": "loss, nats per token",
    "tokens_per_second": "tokens per second",
    "mfu": "model FLOP/s utilisation (MFU)",
    "data_wait": "waiting for data",
    "memory_bytes": "memory in use, fullest device",
    "goodput": "goodput so far",
    "seconds_per_step": "seconds per step",
}
_MAIN = (
    *("loss", "gradient_norm", "learning_rate", "tokens_per_second", "mfu", "data_wait"),
    *("memory_bytes", "goodput"),
)


class Curve(NamedTuple):
    """One line of a chart; its name is empty where that of the chart says all."""

    run: int
    name: str
    series: Series
    evaluation: bool


class Chart(NamedTuple):
    """All curves of a metric, those of all runs."""

    metric: str
    curves: list[Curve]

    @property
    def title(self) -> str:
        return _TITLES.get(self.metric, self.metric.replace("_", " "))

    @property
    def form(self) -> str:
        return _FORMATS.get(self.metric, "number")


def charts(runs: Sequence[Run]) -> tuple[list[Chart], list[Chart]]:
    """Returns the charts that are always looked at, and the others.

    Of a single run, the losses of evaluations are beside that of training; of several, each has a
    chart of its own.
    """
    found: dict[str, Chart] = {}
    for index, run in enumerate(runs):
        for metric, curve in _curves(index, run, together=len(runs) == 1):
            found.setdefault(metric, Chart(metric, [])).curves.append(curve)
    losses = dict.fromkeys(f"{name}/loss" for run in runs for name in run.evaluations)
    first = [metric for metric in (_MAIN[0], *losses, *_MAIN[1:]) if metric in found]
    others = [metric for metric in sorted(found) if metric not in first]
    return [found[metric] for metric in first], [found[metric] for metric in others]


def _curves(index: int, run: Run, *, together: bool) -> Iterator[tuple[str, Curve]]:
    for metric, series in (*run.train.items(), *run.performance.items()):
        name = "train" if metric == "loss" and together else ""
        yield metric, Curve(index, name, series, False)
    for evaluation, curves in run.evaluations.items():
        for key, series in curves.items():
            beside = key == "loss" and together
            metric, name = ("loss", evaluation) if beside else (f"{evaluation}/{key}", "")
            yield metric, Curve(index, name, series, True)


def curve_data(runs: Sequence[Run], labels: Sequence[str], drawn: Sequence[Chart]) -> str:
    """Returns a data block for `curves.js`."""
    number = sum(len(chart.curves) for chart in drawn)
    most = min(max(_POINTS // max(number, 1), _FEWEST_OF_ONE), _MOST_OF_ONE)
    data = {
        "runs": [
            {
                "label": label,
                "faults": sorted({e["step"] for e in run.events if is_fault(e)})[:100],
                "resumed": sorted({e["step"] for e in run.events if e["event"] == "resumed"})[
                    1:100
                ],
            }
            for label, run in zip(labels, runs, strict=True)
        ],
        "charts": [_chart_data(chart, len(runs), most) for chart in drawn],
    }
    # A `<` could end the block; within JSON's strings it may be written so.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="curves">{text}</script>'


def _chart_data(chart: Chart, runs: int, most: int) -> dict[str, Any]:
    return {
        "title": chart.title,
        "form": chart.form,
        "curves": [
            _curve_data(curve, colour, runs, most) for curve, colour in _coloured(chart, runs)
        ],
    }


def _curve_data(curve: Curve, colour: str, runs: int, most: int) -> dict[str, Any]:
    points = curve.series.points(most)
    return {
        "run": curve.run,
        "name": curve.name,
        "colour": colour,
        "evaluation": curve.evaluation,
        "steps": [step for step, _ in points],
        # Eight digits are what float32 holds; what is not finite has no place on an axis.
        "values": [float(f"{v:.8g}") if math.isfinite(v) else None for _, v in points],
    }


def _coloured(chart: Chart, runs: int) -> Iterator[tuple[Curve, str]]:
    for number, curve in enumerate(chart.curves):
        yield curve, COLOURS[(curve.run if runs > 1 else number) % len(COLOURS)]


def figure(chart: Chart, number: int, labels: Sequence[str]) -> str:
    """Returns the place of a chart, with a table for those who cannot see or draw curves."""
    wide = " wide" * (chart.metric == "loss")
    numbers = details("numbers", _numbers(chart, labels))
    return (
        f"<figure class='chart{wide}' data-chart={number}>"
        f"<figcaption>{escape(chart.title)}</figcaption>{numbers}</figure>"
    )


def _numbers(chart: Chart, labels: Sequence[str]) -> str:
    titles = [
        labels[curve.run] if len(labels) > 1 else curve.name or chart.title
        for curve in chart.curves
    ]
    values = [dict(curve.series.points(_MOST_OF_ONE)) for curve in chart.curves]
    steps = sorted({step for known in values for step in known})
    shown = steps[:: -(-len(steps) // _ROWS)]
    if steps and shown[-1] != steps[-1]:
        shown.append(steps[-1])
    rows = [[str(step), *(_at(known, step, chart.form) for known in values)] for step in shown]
    return table(["step", *titles], rows, kinds="n" * (len(titles) + 1))


def _at(known: Mapping[int, float], step: int, form: str) -> str:
    return written(known[step], form) if step in known else ""


def written(value: float, form: str) -> str:
    """Writes a value as its metric is written."""
    if not math.isfinite(value):
        return str(value)
    match form:
        case "percent":
            return f"{value:.1%}"
        case "count":
            return count(value)
        case "bytes":
            return size(value)
    return f"{value:.5g}"
