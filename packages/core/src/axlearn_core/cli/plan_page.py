"""A plan as one HTML page with charts: nothing to load, light or dark, wide or narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from axlearn_core.cli.plan_report import between, part_bytes, seconds, verdict
from axlearn_core.observe.progress import count, size
from axlearn_core.plan.record import Memory, Plan

_PARTS = ("parameters", "optimizer", "other state", "activations", "temporary")

_STYLE = """
:root { color-scheme: light dark; --text: #1d2733; --soft: #5c6875; --back: #fbfcfd;
  --line: #d9e0e7; --a: #2f6fbb; --b: #d9822b; --c: #8a63b8; --d: #2d9d78; --e: #8793a0;
  --bad: #c23b3b; --good: #23805f; }
@media (prefers-color-scheme: dark) { :root { --text: #e6ebf0; --soft: #9aa7b4; --back: #14191f;
  --line: #323c47; --a: #62a0ea; --b: #f0a45d; --c: #b795e0; --d: #5cc9a3; --e: #7c8896;
  --bad: #f08080; --good: #6fd3ae; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.35rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); } .good { color: var(--good); }
.bad { color: var(--bad); } .verdict { font-size: 1.15rem; font-weight: 600; margin-top: 1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem;
  margin: 1rem 0; }
.facts div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
.facts b { display: block; font-size: 1.05rem; }
.row { margin: .55rem 0; } .row .names { display: flex; justify-content: space-between; gap: 1rem; }
svg { display: block; width: 100%; height: 1.1rem; border-radius: .25rem; background: var(--line); }
.legend span { display: inline-block; margin-right: 1.1rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: .2em;
  margin-right: .35em; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
ul { padding-left: 1.2rem; color: var(--soft); }
"""


def page(plan: Plan) -> str:
    """Returns the page."""
    title = f"{plan.experiment} on {plan.target}"
    body = "\n".join(
        (
            _head(plan),
            _facts(plan),
            _memory(plan.memory),
            _times(plan),
            _traffic(plan),
            _arrays(plan),
            _notes(plan.notes),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Plan: {escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _head(plan: Plan) -> str:
    fits = plan.memory.fits
    kind = {True: "good", False: "bad", None: "soft"}[fits]
    mesh = " × ".join(f"{axis} {ways}" for axis, ways in plan.mesh_shape.items()) or "one device"
    how = "compiled" if plan.method == "compiled" else "by arithmetic, not compiled"
    changed = f"<p class=soft>{escape(' '.join(plan.overrides))}</p>" if plan.overrides else ""
    return (
        f"<h1>{escape(plan.experiment)} on {escape(plan.target)}</h1>{changed}"
        f"<p class=soft>mesh {escape(mesh)}, {how}</p>"
        f"<p class='verdict {kind}'>{size(plan.memory.peak)} {escape(verdict(plan.memory))}</p>"
    )


def _facts(plan: Plan) -> str:
    facts = {
        "parameters": count(plan.parameter_count),
        "tokens per step": count(plan.tokens_per_step),
        "step": between(plan.step_seconds, seconds) if plan.step_seconds else "unknown",
        "MFU": between(plan.mfu, "{:.0%}".format) if plan.mfu else "unknown",
        "tokens per day": between(plan.tokens_per_day, count) if plan.tokens_per_day else "unknown",
        "what binds": plan.times.binding or "unknown",
    }
    cells = "".join(
        f"<div><span class=soft>{k}</span><b>{escape(v)}</b></div>" for k, v in facts.items()
    )
    return f"<div class=facts>{cells}</div>"


def _memory(memory: Memory) -> str:
    whole = max(memory.limit or 0, memory.peak) or 1
    parts = [(part_bytes(memory, name) / whole, colour) for name, colour in _coloured()]
    limit = memory.limit / whole if memory.limit and memory.limit < whole else None
    legend = "".join(
        f"<span><i style='background:var(--{colour})'></i>{name} "
        f"{size(part_bytes(memory, name))}</span>"
        for name, colour in _coloured()
    )
    return (
        f"<h2>Memory of each device</h2>{_bar(parts, limit, 'memory by part')}"
        f"<p class=legend>{legend}</p>"
    )


def _coloured() -> Iterable[tuple[str, str]]:
    return zip(_PARTS, "abcde", strict=True)


def _bar(parts: Sequence[tuple[float, str]], mark: float | None, label: str) -> str:
    """Draws fractions of the width one after another, and a line at `mark`."""
    drawn, at = "", 0.0
    for fraction, colour in parts:
        drawn += (
            f"<rect x='{at * 1000:.1f}' width='{fraction * 1000:.1f}' height='20' "
            f"fill='var(--{colour})'/>"
        )
        at += fraction
    if mark is not None:
        drawn += f"<rect x='{mark * 1000 - 2:.1f}' width='4' height='20' fill='var(--bad)'/>"
    return (
        f"<svg viewBox='0 0 1000 20' preserveAspectRatio='none' role='img' "
        f"aria-label='{escape(label)}'>{drawn}</svg>"
    )


def _row(name: str, value: str, fraction: float, colour: str) -> str:
    bar = _bar([(fraction, colour)], None, f"{name}: {value}")
    return (
        f"<div class=row><div class=names><span>{escape(name)}</span>"
        f"<span class=soft>{escape(value)}</span></div>{bar}</div>"
    )


def _times(plan: Plan) -> str:
    times = {name: value for name, value in vars(plan.times).items() if value is not None}
    if not times:
        return ""
    longest = max(times.values()) or 1.0
    work = {
        "compute": f"{count(plan.flops)}FLOP",
        "memory": size(plan.bytes_accessed),
        "network": size(sum(each.bytes for each in plan.traffic)),
    }
    rows = "".join(
        _row(f"{name}, {work[name]}", seconds(value), value / longest, colour)
        for (name, value), colour in zip(times.items(), "abd", strict=False)
    )
    return f"<h2>What each resource needs alone, per step</h2>{rows}"


def _traffic(plan: Plan) -> str:
    if not plan.traffic:
        return ""
    by_time = all(each.seconds is not None for each in plan.traffic)
    values = [each.seconds or 0.0 if by_time else float(each.bytes) for each in plan.traffic]
    longest = max(values) or 1.0
    rows = "".join(
        _row(
            f"{each.kind} over {', '.join(each.axes)} ({each.network} network), {each.count} times",
            f"{size(each.bytes)}, {seconds(each.seconds)}",
            value / longest,
            "a" if each.network == "fast" else "b",
        )
        for each, value in zip(plan.traffic, values, strict=True)
    )
    return f"<h2>What each device sends, per step</h2>{rows}"


def _arrays(plan: Plan) -> str:
    rows = "".join(
        f"<tr><td class=number>{size(each.bytes_per_device)}</td><td>{escape(each.path)}</td>"
        f"<td>{each.dtype} {' × '.join(map(str, each.shape))}</td><td>{escape(each.spec)}</td></tr>"
        for each in plan.largest
    )
    return (
        "<h2>The largest arrays, and what a device has of them</h2><div class=scroll><table>"
        f"<tr><th>bytes</th><th>array</th><th>whole</th><th>split</th></tr>{rows}</table></div>"
    )


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>Notes</h2><ul>{items}</ul>" if items else ""
