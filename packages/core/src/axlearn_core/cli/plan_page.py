"""A plan as one HTML page with charts: nothing to load, light or dark, wide or narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from axlearn_core.cli.page import bar, document, facts, legend, named_bar, table
from axlearn_core.cli.plan_report import between, part_bytes, seconds, verdict
from axlearn_core.observe.progress import count, size
from axlearn_core.plan.record import Memory, Plan

_PARTS = ("parameters", "optimizer", "other state", "activations", "temporary")


def page(plan: Plan) -> str:
    """Returns the page."""
    title = f"{plan.experiment} on {plan.target}"
    body = (
        _head(plan),
        _facts(plan),
        _memory(plan.memory),
        _times(plan),
        _traffic(plan),
        _arrays(plan),
        _notes(plan.notes),
    )
    return document(f"Plan: {title}", body)


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
    return facts(
        {
            "parameters": count(plan.parameter_count),
            "tokens per step": count(plan.tokens_per_step),
            "step": between(plan.step_seconds, seconds) if plan.step_seconds else "unknown",
            "MFU": between(plan.mfu, "{:.0%}".format) if plan.mfu else "unknown",
            "tokens per day": between(plan.tokens_per_day, count)
            if plan.tokens_per_day
            else "unknown",
            "what binds": plan.times.binding or "unknown",
        }
    )


def _memory(memory: Memory) -> str:
    whole = max(memory.limit or 0, memory.peak) or 1
    parts = [(part_bytes(memory, name) / whole, colour) for name, colour in _coloured()]
    limit = memory.limit / whole if memory.limit and memory.limit < whole else None
    names = [(f"{name} {size(part_bytes(memory, name))}", colour) for name, colour in _coloured()]
    drawn = bar(parts, "memory by part", mark=limit)
    return f"<h2>Memory of each device</h2>{drawn}{legend(names)}"


def _coloured() -> Iterable[tuple[str, str]]:
    return zip(_PARTS, (*"abcd", "quiet"), strict=True)


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
        named_bar(f"{name}, {work[name]}", seconds(value), [(value / longest, colour)])
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
        named_bar(
            f"{each.kind} over {', '.join(each.axes)} ({each.network} network), {each.count} times",
            f"{size(each.bytes)}, {seconds(each.seconds)}",
            [(value / longest, "a" if each.network == "fast" else "b")],
        )
        for each, value in zip(plan.traffic, values, strict=True)
    )
    return f"<h2>What each device sends, per step</h2>{rows}"


def _arrays(plan: Plan) -> str:
    rows = [
        (
            size(each.bytes_per_device),
            each.path,
            f"{each.dtype} {' × '.join(map(str, each.shape))}",
            each.spec,
        )
        for each in plan.largest
    ]
    header = ("bytes", "array", "whole", "split")
    listed = table(header, rows, kinds="nwww")
    return f"<h2>The largest arrays, and what a device has of them</h2>{listed}"


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>Notes</h2><ul>{items}</ul>" if items else ""
