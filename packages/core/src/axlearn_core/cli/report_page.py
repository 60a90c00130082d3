"""Runs as one HTML page: what became of them, their curves, and where the time went."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from html import escape

from axlearn_core.cli.page import asset, details, document, facts, key, legend, named_bar, table
from axlearn_core.cli.report_curves import COLOURS, charts, curve_data, figure
from axlearn_core.cli.report_timeline import timeline
from axlearn_core.cli.runs import labels
from axlearn_core.observe.goodput import CATEGORIES, Account, account
from axlearn_core.observe.history import Run
from axlearn_core.observe.progress import count, duration, size
from axlearn_core.observe.series import Series
from axlearn_core.observe.sessions import state_of

_TIMES = {  # the colour of each category
    **{"step": "d", "data_wait": "b", "eval": "f", "checkpoint": "c", "init": "g", "compile": "a"},
    **{"lost_work": "bad", "recovery": "h", "idle": "quiet"},
}
_OPEN = 12  # a table with fewer rows is open from the start
_STATES = {"completed": "good", "running": "good", "failed": "bad", "silent": "bad"}


def page(runs: Sequence[Run], now: float) -> str:
    """Returns the page of at least one run, as of a time in Unix seconds."""
    names = labels(runs)
    title = names[0] if len(runs) == 1 else f"{len(runs)} runs"
    body = (
        _head(runs, names, now),
        _curves(runs, names),
        _goodput(runs, names),
        timeline(runs, names, now),
        _evaluations(runs, names),
        _checkpoints(runs, names),
        _config(runs, names),
        _versions(runs, names),
        _remarks(runs, names),
    )
    return document(f"Report: {title}", body, style=asset("report.css"), script=asset("curves.js"))


def _head(runs: Sequence[Run], names: Sequence[str], now: float) -> str:
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(now))
    if len(runs) == 1:
        (run,) = runs
        return (
            f"<h1>{escape(run.experiment)}</h1>"
            f"<p class=soft>{escape(str(run.directory))}, as of {written}</p>"
            f"{_verdict(run, now)}{facts(_facts(run))}"
        )
    return (
        f"<h1>{len(runs)} runs side by side</h1><p class=soft>as of {written}</p>"
        f"{_compared(runs, names, now)}"
    )


def _compared(runs: Sequence[Run], names: Sequence[str], now: float) -> str:
    """Puts a run in each column: a phone has more room below than beside."""
    told = [_facts(run) for run in runs]
    rows = {"experiment": [escape(run.experiment) for run in runs]}
    rows["state"] = [_pill(run, now) for run in runs]
    for fact in dict.fromkeys(name for each in told for name in each):
        rows[escape(fact)] = [escape(each.get(fact, "")) for each in told]
    titles = "".join(
        f"<th>{key(_colour(index), round=True)}{escape(name)}</th>"
        for index, name in enumerate(names)
    )
    lines = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in rows.items()
    )
    return (
        f"<div class=scroll><table><thead><tr><th></th>{titles}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _verdict(run: Run, now: float) -> str:
    state, detail = state_of(run, now)
    kind = _STATES.get(state, "soft")
    return f"<p class='verdict {kind}'>{escape(f'{state} {detail}'.rstrip())}</p>"


def _pill(run: Run, now: float) -> str:
    state, detail = state_of(run, now)
    kind = _STATES.get(state, "soft")
    return f"<span class='pill {kind}' title='{escape(detail)}'>{escape(state)}</span>"


def _facts(run: Run) -> dict[str, str]:
    train = {name: series.last for name, series in run.train.items()}
    speed = {name: series.last for name, series in run.performance.items()}
    told = {"step": f"{run.step:,}"}
    if run.max_step and run.step < run.max_step:
        told["step"] += f" of {run.max_step:,}"
    if (loss := train.get("loss")) is not None:
        told["loss"] = f"{loss:.4f}"
    for name, curves in run.evaluations.items():
        if "loss" in curves:
            told[f"{name} loss"] = f"{curves['loss'].last:.4f}"
    if rate := run.performance.get("tokens_per_second"):
        told["tokens/s, median"] = count(statistics.median(rate.values))
    if mfu := run.performance.get("mfu"):
        told["MFU, median"] = f"{statistics.median(mfu.values):.0%}"
    if memory := speed.get("memory_peak_bytes") or speed.get("memory_bytes"):
        told["memory, peak"] = size(memory)
    spent = account(run.events)
    if spent.wall:
        told |= {"goodput": f"{spent.goodput:.0%}", "time": duration(spent.wall)}
    return told


def _curves(runs: Sequence[Run], names: Sequence[str]) -> str:
    main, others = charts(runs)
    if not main and not others:
        return "<h2>Curves</h2><p class=soft>No step has been recorded yet.</p>"
    drawn = [figure(chart, number, names) for number, chart in enumerate([*main, *others])]
    first, rest = "".join(drawn[: len(main)]), "".join(drawn[len(main) :])
    more = f"{len(others)} more metric{'s' * (len(others) != 1)}"
    return (
        "<h2>Curves</h2><noscript><p class=soft>Drawing them needs JavaScript; the numbers are "
        f"below each title.</p></noscript>{_TOOLS}<div class=charts>{first}</div>"
        f"{details(more, f'<div class=charts>{rest}</div>') if others else ''}"
        f"{curve_data(runs, names, [*main, *others])}"
    )


_TOOLS = (
    "<div class=tools hidden>"
    "<label>steps <input id=from type=number min=0> to <input id=to type=number min=0></label>"
    "<button id=whole type=button title='or a double click'>all steps</button>"
    "<button id=log-steps type=button aria-pressed=false>log steps</button>"
    "<button id=cut type=button aria-pressed=false title='scale to the inner 96% of values'>"
    "cut outliers</button>"
    "<label>smooth <input id=smooth type=range min=0 max=0.98 step=0.02 value=0></label>"
    "<span class=soft>drag over a curve to zoom</span></div>"
)


def _goodput(runs: Sequence[Run], names: Sequence[str]) -> str:
    spent = {
        name: each
        for name, run in zip(names, runs, strict=True)
        if (each := account(run.events)).wall > 0
    }
    if not spent:
        return ""
    bars = "".join(
        named_bar(
            name if len(runs) > 1 else "all sessions",
            f"{each.goodput:.1%} of {duration(each.wall)}",
            [(each.seconds[category] / each.wall, colour) for category, colour in _TIMES.items()],
        )
        for name, each in spent.items()
    )
    explained = legend((_words(category), colour) for category, colour in _TIMES.items())
    header = ["", *(spent if len(runs) > 1 else ["time"])]
    rows = [[_words(c), *(_time_in(c, each) for each in spent.values())] for c in CATEGORIES]
    rows.append(["all", *(duration(each.wall) for each in spent.values())])
    numbers = table(header, rows, kinds="w" + "n" * len(spent))
    return f"<h2>Where the time went</h2>{bars}{explained}{details('numbers', numbers)}"


def _words(category: str) -> str:
    return category.replace("_", " ")


def _time_in(category: str, each: Account) -> str:
    seconds = each.seconds[category]
    time_ = duration(seconds) if seconds >= 10 else f"{seconds:.2f}s"
    return f"{time_} ({seconds / each.wall:.1%})"


def _evaluations(runs: Sequence[Run], names: Sequence[str]) -> str:
    rows = [
        [*([name] if len(runs) > 1 else []), evaluation, metric, *_of_curve(metric, series)]
        for name, run in zip(names, runs, strict=True)
        for evaluation, curves in run.evaluations.items()
        for metric, series in curves.items()
    ]
    if not rows:
        return ""
    columns = ["evaluation", "value", "newest", "at step", "lowest", "at step"]
    header = ["run", *columns] if len(runs) > 1 else columns
    return f"<h2>Evaluations</h2>{table(header, rows, kinds='w' * (len(header) - 4) + 'nnnn')}"


def _of_curve(metric: str, series: Series) -> tuple[str, str, str, str]:
    newest = f"{series.last:.6g}", str(series.steps[-1])
    if not metric.startswith("loss"):  # of which it is unknown whether low is good
        return *newest, "", ""
    both = zip(series.values, series.steps, strict=True)
    finite = [(value, step) for value, step in both if math.isfinite(value)]
    if not finite:
        return *newest, "", ""
    lowest, step = min(finite)
    return *newest, f"{lowest:.6g}", str(step)


def _checkpoints(runs: Sequence[Run], names: Sequence[str]) -> str:
    rows = [
        [
            *([name] if len(runs) > 1 else []),
            str(saved.step),
            saved.status,
            size(saved.bytes),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(saved.path.stat().st_mtime)),
            saved.problem,
        ]
        for name, run in zip(names, runs, strict=True)
        for saved in run.checkpoints
        if saved.path.exists()
    ]
    if not rows:
        return ""
    columns = ["step", "state", "size", "saved", "problem"]
    header = ["run", *columns] if len(runs) > 1 else columns
    listed = table(header, rows, kinds="w" * (len(header) - 5) + "nwnwt")
    return "<h2>Checkpoints</h2>" + details(f"{len(rows)} on disk", listed, open=len(rows) <= _OPEN)


def _config(runs: Sequence[Run], names: Sequence[str]) -> str:
    parts = ["<h2>Config</h2>"]
    if len(runs) > 1:
        parts.append(_between(runs, names))
    for name, run in zip(names, runs, strict=True):
        title = f"{name}: {run.experiment}" if len(runs) > 1 else run.experiment
        parts.append(f"<h3>What differs from {escape(title)}</h3>{_changes(run)}")
        if run.config:
            values = table(["path", "value"], run.config.items(), kinds="pt")
            parts.append(details(f"all {len(run.config)} values", values))
    return "".join(parts)


def _changes(run: Run) -> str:
    if run.changes is None:
        return (
            "<p class=soft>This run did not record it. <code>axl config diff "
            f"{escape(run.experiment)} {escape(str(run.directory))}</code> tells.</p>"
        )
    if not run.changes:
        return "<p class=soft>Nothing.</p>"
    rows = []
    for line in run.changes:
        path, _, change = line.partition(": ")
        base, _, value = change.partition(" -> ")
        rows.append((path, base, value))
    return table(["path", "experiment", "this run"], rows, kinds="ptt")


def _between(runs: Sequence[Run], names: Sequence[str]) -> str:
    paths = dict.fromkeys(path for run in runs for path in run.config)
    rows = [
        [path, *(run.config.get(path, "(absent)") for run in runs)]
        for path in paths
        if len({run.config.get(path) for run in runs}) > 1
    ]
    if not rows:
        return "<h3>What differs between them</h3><p class=soft>Nothing.</p>"
    listed = table(["path", *names], rows, kinds="p" + "t" * len(runs))
    return f"<h3>What differs between them</h3>{listed}"


def _versions(runs: Sequence[Run], names: Sequence[str]) -> str:
    if not any(run.versions for run in runs):
        return ""
    distributions = sorted({name for run in runs for name in run.versions})
    rows = [[name, *(run.versions.get(name, "") for run in runs)] for name in distributions]
    header = ["distribution", *names] if len(runs) > 1 else ["distribution", "version"]
    listed = table(header, rows, kinds="w" * len(header))
    return f"<h2>Plugins and versions</h2>{listed}"


def _remarks(runs: Sequence[Run], names: Sequence[str]) -> str:
    items = "".join(
        f"<li>{escape(f'{name}: {remark}' if len(runs) > 1 else remark)}</li>"
        for name, run in zip(names, runs, strict=True)
        for remark in run.remarks
    )
    return f"<h2>Notes</h2><ul>{items}</ul>" if items else ""
