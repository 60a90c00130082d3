"""Runs all benchmarks and writes a table.

    python benchmarks/run.py --baselines FOLDER [--rounds 5] [--out benchmarks/results/NAME.md]

FOLDER holds the baselines (`bench_limit.py`, `bench_nnx.py`, `bench_hf.py`) with `benchlib.py` and
`driver.py`. Who cannot run, for want of flax or torch, has a row that says so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORKLOADS = ("small", "tiny", "deep")
# What runs side by side: the first is what the others' speed is relative to.
RACERS = {
    "hand-written, the fast way": "{baselines}/bench_limit.py --variant remattn,liger,blk",
    "axlearn": "{here}/race_step.py",
    "hand-written, the naive way": "{baselines}/bench_limit.py --variant remat",
    "Flax NNX": "{baselines}/bench_nnx.py",
    "transformers, torch.compile": "{baselines}/bench_hf.py --variant compileall",
}
SPARSE = {
    "axlearn, dense small": "{here}/race_step.py --work small",
    "axlearn, 8 experts": "{here}/race_step.py --work moe",
    "hand-written, 8 experts": "{here}/moe_by_hand.py --work moe",
}


def race(
    baselines: Path, racers: dict[str, str], work: str | None, rounds: int, wait: float
) -> dict[str, dict[str, Any] | None]:
    """Interleaves the steps of several programs; returns each one's figures, or None, by name."""
    commands = {}
    for name, words in racers.items():
        command = f"{sys.executable} {words.format(baselines=baselines, here=HERE)}"
        commands[name] = f"{command} --work {work}" if work else command
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "race.jsonl"
        driver = [sys.executable, str(baselines / "driver.py"), str(out), "--rounds", str(rounds)]
        driver += ["--quiet", str(wait)]
        steps = "10" if work in ("tiny", "deep") else "2"
        subprocess.run(
            [*driver, "--k", steps, "--", *commands.values()],
            check=True,
            env=environment(baselines),
        )
        found = {entry["cmd"]: entry for entry in map(json.loads, out.read_text().splitlines())}
    for name, command in commands.items():
        if command not in found:
            print(f"{name} did not run: {command}", file=sys.stderr)
    return {name: found.get(command) for name, command in commands.items()}


def seconds(entry: dict[str, Any]) -> float:
    """The median step while nothing else ran, or of all steps where something always did."""
    return float(entry["clean"] or entry["median"])


def race_table(title: str, entries: dict[str, dict[str, Any] | None]) -> str:
    reference, first = next(iter(entries.items()))
    if first is None:
        return f"## {title}\n\nNo table: {reference}, which all is relative to, did not run."
    rows = [
        f"## {title}\n",
        "| program | step s | speed relative to the first | peak MB | relative | compile s "
        "| start to first step s |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, entry in entries.items():
        if entry is None:
            rows.append(f"| {name} | did not run | | | | | |")
            continue
        peak = entry["peak_rss_mb"]
        compiling = entry.get("compile_s")
        rows.append(
            f"| {name} | {seconds(entry):.4g} | {seconds(first) / seconds(entry):.2f} | {peak} "
            f"| {peak / first['peak_rss_mb']:.2f} | {'' if compiling is None else compiling} "
            f"| {entry['ttfs_s']} |"
        )
    return "\n".join(rows)


def measure(script: str, baselines: Path, *arguments: str) -> dict[str, Any]:
    """Runs one of the scripts beside this one and reads the JSON it prints last."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(
        command, check=True, env=environment(baselines), stdout=subprocess.PIPE, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def environment(baselines: Path) -> dict[str, str]:
    return os.environ | {"AXLEARN_BASELINES": str(baselines), "JAX_PLATFORMS": "cpu"}


def machine() -> str:
    """Describes the processor and the versions in use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "optax"))
    return f"{os.cpu_count()} cores of {model}; Python {platform.python_version()}, {versions}"


def table(results: dict[str, dict[str, Any]]) -> str:
    rows = ["## Beside the step\n", "| what | bound | measured | figures |"]
    rows.append("| --- | --- | --: | --- |")
    for what, result in results.items():
        bound, key = BOUNDS[what]
        rest = ", ".join(f"{k} {v:.4g}" for k, v in result.items() if k != key)
        rows.append(f"| {what} | {bound} | {result[key]:.3g} | {rest} |")
    return "\n".join(rows)


BOUNDS = {
    "command to first step, small: seconds more than hand-written": ("<= 2", "difference_s"),
    "compile time, 32 layers / 4 layers": ("<= 1.15", "ratio"),
    "reading prepared data / consumption by training": (">= 20", "ratio"),
    "stall of an asynchronous save / step, small": ("<= 0.10", "ratio"),
    "whole trainer / bare jitted step, small": ("<= 1.02", "ratio"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baselines", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--wait", type=float, default=60, help="Seconds to wait for other programs, each turn."
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--only",
        choices=[*WORKLOADS, "moe", "rest"],
        action="append",
        help="Measure this alone; may be given several times.",
    )
    args = parser.parse_args()
    baselines = args.baselines.resolve()
    parts = args.only or [*WORKLOADS, "moe", "rest"]
    tables = [
        race_table(
            f"Training step, *{work}*", race(baselines, RACERS, work, args.rounds, args.wait)
        )
        for work in WORKLOADS
        if work in parts
    ]
    if "moe" in parts:
        entries = race(baselines, SPARSE, None, args.rounds, args.wait)
        tables.append(race_table("Training step, sparse against dense *small*", entries))
    if "rest" in parts:
        names = iter(BOUNDS)
        results = {
            next(names): measure("start.py", baselines, "--baselines", str(baselines)),
            next(names): measure("compile_depth.py", baselines),
            next(names): measure("reading.py", baselines),
            next(names): measure("saving.py", baselines),
            next(names): measure("overhead.py", baselines),
        }
        tables.append(table(results))
    text = "\n\n".join([*tables, machine()]) + "\n"
    print(text)
    if args.out:
        args.out.write_text(f"# Benchmarks\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
