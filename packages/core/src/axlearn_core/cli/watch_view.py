"""What `axl watch` shows: runs in a terminal of any size."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from axlearn_core.cli.runs import labels
from axlearn_core.observe.curves import Points, draw
from axlearn_core.observe.goodput import Account, account
from axlearn_core.observe.history import Event, Run
from axlearn_core.observe.progress import count, duration, size
from axlearn_core.observe.sessions import describe, is_fault, is_remarkable, state_of

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")  # of runs
_STATES = {"running": "green", "completed": "green", "failed": "red", "silent": "yellow"}
_CATEGORIES = {
    "step": ("green", "█"),
    "data_wait": ("yellow", "▓"),
    "eval": ("cyan", "▓"),
    "checkpoint": ("magenta", "▓"),
    "init": ("blue", "▒"),
    "compile": ("bright_blue", "▒"),
    "lost_work": ("red", "░"),
    "recovery": ("bright_red", "░"),
    "idle": ("bright_black", "·"),
}
_POINTS = 2000  # of a curve; a terminal has a few hundred columns
_START = 0.05  # a share of the steps; higher losses than after it are drawn as the highest
_MANY = 40  # points that a curve has if its start is left out
_LOWEST = 5  # rows of the chart
_FAULTS = 2  # older than the events that are shown, but not to be missed
_SMALL = 0.005  # a share of the time that is not worth a word
_SPARK = 12  # columns of the small curve beside the speed


def frame(runs: Sequence[Run], width: int, height: int, now: float) -> RenderableType:
    """Returns one picture of the runs, as they were at a time, for this many columns and rows."""
    coloured = zip(runs, itertools.cycle(_COLOURS), strict=False)
    names = dict(zip(labels(runs), coloured, strict=True))
    several = len(runs) > 1
    above = [
        line
        for label, (run, colour) in names.items()
        for line in _head(run, Text(f"● {label} ", colour) if several else Text(""), width, now)
    ]
    below = [
        *_goodput(names, width, several),
        *_evaluations(names, several),
        *_remarks(runs),
    ]
    used = _rows([*above, *below], width)
    events = list(_events(names, several, min(max((height - used) // 4, 3), 8)))
    # The chart has a line above it and one below.
    chart = max(height - used - len(events) - 2, _LOWEST)
    return Group(*above, *_chart(names, width, chart), *below, *events)


def _rows(lines: Sequence[Text], width: int) -> int:
    return sum(-(-max(line.cell_len, 1) // width) for line in lines)


Named = Mapping[str, tuple[Run, str]]


def _head(run: Run, label: Text, width: int, now: float) -> Iterator[Text]:
    state, detail = state_of(run, now)
    told = (f"{state} {detail}".rstrip(), _STATES.get(state, "yellow"))
    where = "" if label.plain else f"  {run.directory}"
    title = Text.assemble(label, (run.experiment, "bold"), "  ", told, (where, "dim"))
    title.truncate(width, overflow="ellipsis")
    yield title
    yield _progress(run, width)
    yield from _packed(map(Text, _facts(run, state)), width)


def _progress(run: Run, width: int) -> Text:
    share = min(run.step / run.max_step, 1.0) if run.max_step else 0.0
    told = f" {run.step}/{run.max_step}  {share:.0%}" if run.max_step else f" {run.step}/?"
    columns = max(width - len(told), 0)
    done = round(share * columns)
    return Text.assemble(("━" * done, "green"), ("─" * (columns - done), "dim"), told)


def _packed(parts: Iterable[Text], width: int) -> Iterator[Text]:
    """Puts parts into lines, none of them torn apart."""
    line = Text("")
    for part in parts:
        if line and line.cell_len + 2 + part.cell_len > width:
            yield line
            line = Text("")
        line = Text.assemble(line, "  ", part) if line else part
    yield line


def _facts(run: Run, state: str) -> list[str]:
    """Writes the newest values."""
    speed = {name: series.last for name, series in run.performance.items()}
    train = {name: series.last for name, series in run.train.items()}
    facts = []
    for name, shown, form in (
        ("loss", "loss", "{:.4f}"),
        ("learning_rate", "lr", "{:.2e}"),
        ("gradient_norm", "grad", "{:.2f}"),
    ):
        if (value := train.get(name)) is not None:
            facts.append(f"{shown} {form.format(value)}")
    if rate := speed.get("tokens_per_second"):
        spark = draw([run.performance["tokens_per_second"].points(_POINTS)], _SPARK, 1, floor=0.0)
        facts.append(f"tok/s {count(rate)} {spark.rows[0][0] if spark else ''}".rstrip())
    for name, shown in (("mfu", "mfu"), ("data_wait", "wait")):
        if (value := speed.get(name)) is not None:
            facts.append(f"{shown} {value:.0%}")
    if memory := speed.get("memory_bytes"):
        facts.append(f"mem {size(memory)}")
    left = (run.max_step or 0) - run.step
    per_step = speed.get("seconds_per_step") or math.nan
    if state == "running" and left > 0 and math.isfinite(per_step):
        facts.append(f"eta {duration(left * per_step)}")
    return facts


def _chart(names: Named, width: int, height: int) -> Iterator[Text]:
    curves: list[Points] = [
        run.train["loss"].points(_POINTS) if "loss" in run.train else []
        for run, _ in names.values()
    ]
    ceiling = _ceiling(curves)
    cut = any(value > ceiling for curve in curves for _, value in curve)
    curves = [[(step, min(value, ceiling)) for step, value in curve] for curve in curves]
    low_high = draw(curves, 1, 1)
    if low_high is None:
        yield Text("\nno step has been recorded yet", "dim")
        return
    beside = {0: f"{'↑' * cut}{low_high.high:.4g}", height - 1: f"{low_high.low:.4g}"}
    margin = max(len("loss"), *map(len, beside.values()))
    picture = draw(curves, max(width - margin - 2, 10), height)
    assert picture is not None
    colours = [colour for _, colour in names.values()]
    yield Text("")
    for number, (row, owners) in enumerate(picture.rows):
        label = beside.get(number, "loss" if number == height // 2 else "")
        line = Text.assemble((f"{label:>{margin}} ", "dim"))
        for owner, places in itertools.groupby(range(len(row)), key=owners.__getitem__):
            part = "".join(row[place] for place in places)
            line.append(part, colours[owner] if owner >= 0 else None)
        yield line
    last = f"step {picture.last}"
    ticks = f"{picture.first}".ljust(len(picture.rows[0][0]) - len(last)) + last
    yield Text(f"{'':{margin}} {ticks}", "dim")


def _ceiling(curves: Sequence[Points]) -> float:
    """Returns the highest value after the start, whose fall would make all else look flat."""
    steps = [step for curve in curves for step, _ in curve]
    if len(steps) < _MANY:
        return math.inf
    start = min(steps) + _START * (max(steps) - min(steps))
    later = [value for curve in curves for step, value in curve if step >= start]
    return max(filter(math.isfinite, later), default=math.inf)


def _goodput(names: Named, width: int, several: bool) -> Iterator[Text]:
    accounts = {label: account(run.events) for label, (run, _) in names.items() if run.events}
    shown = {label: each for label, each in accounts.items() if each.wall > 0}
    if not shown:
        return
    yield Text("")
    for label, each in shown.items():
        title = Text.assemble(
            (f"● {label} ", names[label][1]) if several else "",
            f"goodput {each.goodput:4.0%} of {duration(each.wall)} ",
        )
        yield title + _bar(each, max(width - title.cell_len, 10))
    yield from _packed(_legend(next(iter(shown.values())), not several), width)


def _legend(each: Account, with_shares: bool) -> Iterator[Text]:
    for category, (colour, mark) in _CATEGORIES.items():
        share = each.seconds[category] / each.wall
        name = category.replace("_", " ")
        if not with_shares:
            yield Text.assemble((mark, colour), f" {name}")
        elif share >= _SMALL:
            yield Text.assemble((mark, colour), f" {name} {share:.0%}")


def _bar(each: Account, width: int) -> Text:
    bar, spent = Text(""), 0.0
    for category, (colour, mark) in _CATEGORIES.items():
        spent += each.seconds[category]
        bar.append(mark * (round(spent / each.wall * width) - len(bar)), colour)
    return bar


def _evaluations(names: Named, several: bool) -> Iterator[Text]:
    rows = [
        Text.assemble(
            (f"● {label} ", colour) if several else "",
            f"eval {name}  loss ",
            (f"{curves['loss'].last:.4f}", "bold"),
            f" at step {curves['loss'].steps[-1]}",
            _best(curves["loss"].points(_POINTS)),
        )
        for label, (run, colour) in names.items()
        for name, curves in run.evaluations.items()
        if "loss" in curves
    ]
    if rows:
        yield from (Text(""), *rows)


def _best(points: Points) -> str:
    finite = [(value, step) for step, value in points if math.isfinite(value)]
    best, step = min(finite, default=(math.nan, points[-1][0]))
    return f", best {best:.4f} at {step}" if step != points[-1][0] else ""


def _events(names: Named, several: bool, most: int) -> Iterator[Text]:
    told: list[tuple[str, Event]] = sorted(
        (
            (label, event)
            for label, (run, _) in names.items()
            for event in run.events
            if is_remarkable(event)
        ),
        key=lambda pair: float(pair[1]["time"]),
    )
    if told:
        yield Text("")
    faults = [pair for pair in told[:-most] if is_fault(pair[1])]
    for label, event in [*faults[-_FAULTS:], *told[-most:]]:
        clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        line = Text.assemble(
            (f"{clock} ", "dim"),
            (f"● {label} ", names[label][1]) if several else "",
            (f"step {event['step']:<6} ", "dim"),
            (describe(event), "red" if is_fault(event) else ""),
        )
        line.no_wrap, line.overflow = True, "ellipsis"
        yield line


def _remarks(runs: Sequence[Run]) -> Iterator[Text]:
    for run in runs:
        for remark in run.remarks:
            yield Text(f"note: {remark}", "yellow")
