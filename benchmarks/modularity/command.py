"""The command: measures in several processes, prints, writes, and fails where it should."""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from modularity.catalogue import FEATURES
from modularity.experiments import STACKS, VARIANTS, experiments
from modularity.lines import ROOT, changed_along_with, changed_lines
from modularity.meter import Baseline, Row, measure
from modularity.models import models
from modularity.report import Report, chart, estimates, page, table

STRIDE = 23  # has no divisor in common with the grid, so that a sample has all of everything
SAMPLE = 32


def part(names: list[str], sampled: list[str]) -> tuple[int, int, list[Row]]:
    """Measures all features on the experiments of some models, in a process of its own.

    Args:
        sampled: names of experiments that make a step; each feature takes every eighth of them.
    """
    grid = list(experiments(names))
    sample = [index for index, experiment in enumerate(grid) if experiment.name in sampled]
    baseline = Baseline(grid, sample)
    rows = []
    for number, feature in enumerate(FEATURES):
        steps = sample[number % len(FEATURES) :: len(FEATURES)]
        rows.append(measure(feature, baseline, steps))
        print(f"{len(grid)} experiments, {feature.title}: {rows[-1].right} right", flush=True)
    return len(grid), len(sample), rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Brings eight features to some 700 experiments and counts lines."
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--models", type=int, help="only so many of them")
    parser.add_argument("--write", action="store_true", help="the table and the chart")
    arguments = parser.parse_args()

    began = time.perf_counter()
    names = list(models())[: arguments.models]
    grid = [f"{m}/{v}/{s}" for m in names for v in VARIANTS for s in STACKS]
    sampled = [grid[i * STRIDE % len(grid)] for i in range(min(SAMPLE, len(grid)))]
    jobs = min(arguments.jobs, len(names))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(part, names[i::jobs], sampled) for i in range(jobs)]
        parts = [future.result() for future in futures]

    rows = parts[0][2]
    for _, _, others in parts[1:]:
        for row, other in zip(rows, others, strict=True):
            row.add(other)
    uncommitted = changed_lines()
    if uncommitted:
        print(
            f"packages/ differs from the last commit by {uncommitted} lines: commit or stash them"
        )
    for row, feature in zip(rows, FEATURES, strict=True):
        row.changed += uncommitted + changed_along_with(feature.path)
    report = Report(
        models=names,
        variants=list(VARIANTS),
        stacks=list(STACKS),
        built=sum(count for count, _, _ in parts),
        stepped=sum(count for _, count, _ in parts),
        rows=dict(zip(FEATURES, rows, strict=True)),
        seconds=time.perf_counter() - began,
    )
    print(table(report))
    for row in rows:
        for finding in row.findings[:20]:
            print(f"{row.title}: {finding}")
    if arguments.write:
        write(report)
    return int(any(row.changed or row.findings for row in rows))


def write(report: Report) -> None:
    """Writes the page of results, the chart, and the tables of the documentation."""
    (ROOT / "benchmarks/results/modularity.md").write_text(page(report), encoding="utf-8")
    images = ROOT / "docs/images"
    images.mkdir(exist_ok=True)
    (images / "modularity.svg").write_text(chart(report), encoding="utf-8")
    document = ROOT / "docs/modularity.md"
    text = document.read_text(encoding="utf-8")
    for name, content in (("measured", table(report)), ("estimates", estimates(report))):
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}{mark}{content}\n{rest[rest.index('<!-- end -->') :]}"
    document.write_text(text, encoding="utf-8")
