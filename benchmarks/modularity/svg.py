"""Draws the chart, in colours that can be read on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 440
GREY, ESTIMATE, MEASURED = "#7d828a", "#9a8c6d", "#2f8fd0"
LARGEST = 10_000  # of the logarithmic axis, which begins at 1; 0 has a place of its own before it


class Bar(NamedTuple):
    """Lines of one system."""

    name: str
    lines: int
    measured: bool


Group = tuple[str, Sequence[Bar]]
"""A title and what is below it."""


class Curve(NamedTuple):
    """Lines of one feature by number of models."""

    name: str
    points: Sequence[tuple[int, int]]


def draw(groups: Sequence[Group], curves: Sequence[Curve], variants: int) -> str:
    """Returns an SVG of two panels.

    Args:
        groups: of the left panel.
        curves: of the right panel.
        variants: attention variants that each model has there.
    """
    most = max(n for curve in curves for n, _ in curve.points)
    size = f"{most} models x {variants} variants"
    body = [*_bars(groups, size), *_curves(curves, variants)]
    style = f'font-family="system-ui, sans-serif" font-size="13" fill="{GREY}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>',
            "<title>Lines of existing code to change for a feature</title>",
            *body,
            "</svg>\n",
        ]
    )


def _bars(groups: Sequence[Group], measured: str) -> list[str]:
    left, right, top, bottom = 105, 415, 50, 360
    rows = sum(len(bars) + 1 for _, bars in groups)
    step = (bottom - top) / rows

    def x(lines: int) -> float:
        share = 0.06 + 0.94 * math.log10(lines) / math.log10(LARGEST) if lines else 0.0
        return left + share * (right - left)

    title = "Existing lines to change, at 20 models x 10 variants"
    drawn = [_text(left - 95, 24, title, bold=True)]
    for tick in (0, 1, 10, 100, 1000, LARGEST):
        drawn.append(_line(x(tick), top, x(tick), bottom))
        drawn.append(_text(x(tick), bottom + 18, f"{tick:,}", "middle"))
    drawn.append(_text((left + right) / 2, bottom + 40, "lines (logarithmic beyond 1)", "middle"))
    y = top
    for title, bars in groups:
        drawn.append(_text(left + 8, y + step * 0.75, title, bold=True))
        y += step
        for bar in bars:
            colour = MEASURED if bar.measured else ESTIMATE
            end = max(x(bar.lines), left + 3)
            drawn.append(
                f'<rect x="{left}" y="{y + 2:.1f}" width="{end - left:.1f}" '
                f'height="{step - 4:.1f}" fill="{colour}"/>'
            )
            drawn.append(_text(left - 8, y + step * 0.72, bar.name, "end", bold=bar.measured))
            said = f"{bar.lines:,} measured" if bar.measured else f"{bar.lines:,}"
            drawn.append(_text(end + 6, y + step * 0.72, said, bold=bar.measured))
            y += step
    legend = bottom + 58
    for place, (colour, what) in enumerate(
        ((ESTIMATE, "estimates of arXiv:2507.05411"), (MEASURED, f"measured, {measured}"))
    ):
        at = 10 + place * 230
        drawn.append(f'<rect x="{at}" y="{legend}" width="12" height="10" fill="{colour}"/>')
        drawn.append(_text(at + 18, legend + 10, what))
    return drawn


def _curves(curves: Sequence[Curve], variants: int) -> list[str]:
    left, right, top, bottom = 500, 690, 50, 360
    last = max(n for curve in curves for n, _ in curve.points)
    highest = 10

    def place(n: int, lines: int) -> tuple[float, float]:
        across = (n - 1) / max(last - 1, 1)
        return left + across * (right - left), bottom - lines / highest * (bottom - top)

    drawn = [_text(left - 40, 24, "Lines to bring a feature in, measured", bold=True)]
    for lines in range(0, highest + 1, 2):
        _, y = place(1, lines)
        drawn += [_line(left, y, right, y), _text(left - 8, y + 4, str(lines), "end")]
    for n in sorted({1, *range(5, last, 5), last}):
        drawn.append(_text(place(n, 0)[0], bottom + 18, str(n), "middle"))
    said = f"models, with {variants} attention variants each"
    drawn.append(_text((left + right) / 2, bottom + 40, said, "middle"))
    drawn.append(_text(left - 8, top - 10, "lines", "end"))
    by_end: dict[int, list[Curve]] = {}
    for curve in curves:
        by_end.setdefault(curve.points[-1][1], []).append(curve)
    for end, together in by_end.items():
        for curve in together:
            points = " ".join("{:.1f},{:.1f}".format(*place(n, lines)) for n, lines in curve.points)
            drawn.append(
                f'<polyline points="{points}" fill="none" stroke="{MEASURED}" stroke-width="2"/>'
            )
        _, y = place(last, end)
        for number, curve in enumerate(together):
            shift = (number - (len(together) - 1) / 2) * 17
            drawn.append(_text(right + 10, y + 4 + shift, curve.name))
    return drawn


def _text(x: float, y: float, said: str, anchor: str = "start", *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(said)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{GREY}" opacity="0.35"/>'
