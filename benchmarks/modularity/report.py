"""Tables and a chart of what the meter found."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import NamedTuple

from modularity.catalogue import Feature
from modularity.lines import git
from modularity.meter import Row, growth, slopes
from modularity.svg import Bar, Curve, draw

# Estimates of arXiv:2507.05411 for 20 models with 10 attention variants: lines of existing code to
# change for rotary positions, and for mixtures of experts. None is not given.
PAPER: dict[str, tuple[int, int | None]] = {
    "Megatron-LM": (400, 20),
    "DeepSpeed": (320, 4000),
    "TorchTitan": (240, 400),
    "Flax": (600, None),
    "Praxis": (300, 5),
    "MaxText": (200, 300),
    "AXLearn": (0, 0),
}
ROPE, MOE = "p_rope", "switch_experts"


class Report(NamedTuple):
    """All that was measured.

    Attributes:
        built: experiments that were built.
        stepped: how many of them made a training step without any feature.
    """

    models: list[str]
    variants: list[str]
    stacks: list[str]
    built: int
    stepped: int
    rows: dict[Feature, Row]
    seconds: float


def table(report: Report) -> str:
    """Returns a line for each feature."""
    rows = [
        "| feature | lines changed in `packages/` | lines of the snippet | experiments reached "
        "| right | of these trained a step | lines per further model, variant "
        "| lines of the plugin |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for feature, row in report.rows.items():
        points = growth(feature, report.models, report.variants, row)
        per_model, per_variant = slopes(points)
        rows.append(
            f"| {row.title} | {row.changed} | {row.snippet_lines} | {row.reached} | {row.right} "
            f"| {row.stepped} | {per_model:g}, {per_variant:g} | {row.plugin_lines} |"
        )
    return "\n".join(rows)


def estimates(report: Report) -> str:
    """Returns the paper's table, and below it what was measured here."""
    rows = [
        "| system | rotary positions | mixture of experts | where from |",
        "| --- | --: | --: | --- |",
    ]
    for system, (rope, moe) in PAPER.items():
        rows.append(f"| {system} | {rope} | {'-' if moe is None else moe} | paper's estimate |")
    rope_row, moe_row = _row(report, ROPE), _row(report, MOE)
    rows.append(f"| **here** | **{rope_row.changed}** | **{moe_row.changed}** | measured |")
    return "\n".join(rows)


def page(report: Report) -> str:
    """Returns the page of results."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "optax"))
    commit = git("rev-parse", "--short", "HEAD").strip()
    sizes = (len(report.models), len(report.variants), len(report.stacks))
    minutes = report.seconds / 60
    grid = f"{sizes[0]} models x {sizes[1]} attention variants x {sizes[2]} stacks"
    return f"""# Modularity

Printed by `python benchmarks/modularity/run.py --write` at commit {commit} in {minutes:.0f} min;
{os.cpu_count()} cores, Python {platform.python_version()}, {versions}. What it means is in
[docs/modularity.md](../../docs/modularity.md).

{grid} = {report.built} experiments. All were built, {report.stepped} trained a step as they are.

{table(report)}

Lines of existing code to change, of 20 models with 10 attention variants in the paper, and of
{sizes[0]} with {sizes[1]} here:

{estimates(report)}

Models: {", ".join(report.models)}. Attention variants: {", ".join(report.variants)}. \
Stacks: {", ".join(report.stacks)}.
"""


def chart(report: Report) -> str:
    """Returns an SVG: the paper's estimates with ours, and how ours grow with the models."""
    groups = []
    for index, (title, package) in enumerate((("RoPE", ROPE), ("Mixture of experts", MOE))):
        bars = [
            Bar(system, lines[index], measured=False)
            for system, lines in PAPER.items()
            if lines[index] is not None
        ]
        bars.append(Bar("here", _row(report, package).changed, measured=True))
        groups.append((title, bars))
    curves = []
    for feature, row in report.rows.items():
        points = growth(feature, report.models, report.variants, row)
        every = [(n, lines) for n, m, lines in points if m == len(report.variants)]
        curves.append(Curve(row.title, every))
    changed = max(row.changed for row in report.rows.values())
    existing = [(n, changed) for n in range(1, len(report.models) + 1)]
    curves.append(Curve("existing lines changed", existing))
    return draw(groups, curves, variants=len(report.variants))


def _row(report: Report, package: str) -> Row:
    return next(row for feature, row in report.rows.items() if feature.package == package)
