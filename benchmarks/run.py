"""Runs all benchmarks and writes a table.

    python benchmarks/run.py --baselines FOLDER [--rounds 5] [--out benchmarks/results/NAME.md]

FOLDER holds the hand-written baselines (`bench_limit.py`, `benchlib.py`, `driver.py`).
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
VARIANT = "remattn,liger,blk"


def race(baselines: Path, work: str, rounds: int) -> dict[str, float]:
    """Interleaves our step with the hand-written one; returns their clean medians."""
    python = sys.executable
    commands = [
        f"{python} {baselines}/bench_limit.py --work {work} --variant {VARIANT}",
        f"{python} {HERE}/race_step.py --work {work}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "race.jsonl"
        steps = "2" if work == "small" else "10"
        driver = [python, str(baselines / "driver.py"), str(out), "--rounds", str(rounds)]
        subprocess.run([*driver, "--k", steps, *commands], check=True, env=environment(baselines))
        hand, axl = (json.loads(line) for line in out.read_text().splitlines())
    seconds = [entry["clean"] or entry["median"] for entry in (hand, axl)]
    return {"hand_written_s": seconds[0], "axlearn_s": seconds[1], "ratio": seconds[0] / seconds[1]}


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
    rows = ["| what | bound | measured | figures |", "| --- | --- | --: | --- |"]
    for name, (bound, key) in BOUNDS.items():
        if name in results:
            result = results[name]
            rest = ", ".join(f"{k} {v:.4g}" for k, v in result.items() if k != key)
            rows.append(f"| {name} | {bound} | {result[key]:.3g} | {rest} |")
    return "\n".join(rows)


BOUNDS = {
    "train step, small: speed relative to hand-written": (">= 0.90", "ratio"),
    "train step, tiny: speed relative to hand-written": (">= 0.90", "ratio"),
    "command to first step, small: seconds more than hand-written": ("<= 3", "difference_s"),
    "compile time, 32 layers / 4 layers": ("<= 1.15", "ratio"),
    "reading prepared data / consumption by training": (">= 20", "ratio"),
    "stall of an asynchronous save / step, small": ("<= 0.10", "ratio"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baselines", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    baselines = args.baselines.resolve()
    names = iter(BOUNDS)
    results = {
        next(names): race(baselines, "small", args.rounds),
        next(names): race(baselines, "tiny", args.rounds),
        next(names): measure("start.py", baselines, "--baselines", str(baselines)),
        next(names): measure("compile_depth.py", baselines),
        next(names): measure("reading.py", baselines),
        next(names): measure("saving.py", baselines),
    }
    text = f"{table(results)}\n\n{machine()}\n"
    print(text)
    if args.out:
        args.out.write_text(f"# Benchmarks\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
