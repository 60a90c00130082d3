"""Trains models on this machine's accelerator: speed, memory against the plan, kernels, remat.

Each row is `axl train` in a process of its own, so that memory is that of one run. MFU is
(6 N + 12 L d S) * tokens/s / peak: N parameters, L layers of width d, sequences of S tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

STEPS = 30
_KEPT = "model.**.stack.remat=layers/remat"


class Case(NamedTuple):
    """A model as it fits on one chip."""

    experiment: str
    overrides: tuple[str, ...]
    layers: int
    dim: int
    seq_len: int


CASES = {
    "85M": Case("text.llama-85m", ("input.batch_size=32",), 12, 768, 1024),
    "1B": Case("text.llama-1b", ("input.batch_size=4",), 16, 2048, 4096),
    "2.7B": Case("published.afm-on-device", ("input.batch_size=4",), 26, 3072, 4096),
    "Llama 2 7B, 8 layers": Case(
        "published.llama2-7b", ("model.stack.num_layers=8", "input.batch_size=4"), 8, 4096, 4096
    ),
    "smoke": Case("text.markov", (), 2, 64, 64),
}
KERNELS = ("", "cudnn", "splash", "blocked")
REMAT = {
    "as the experiment says": (),
    "nothing kept": (_KEPT, "model.**.remat.save=null"),
    "attention": (_KEPT, "model.**.remat.save='block_hidden|attention_.*'"),
    "all but cheap": ("model.**.remat=null",),
}


class Row(NamedTuple):
    """What a run reached, or why it did not."""

    case: str
    variant: str
    tokens_per_second: float = 0.0
    mfu: float | None = None
    peak_bytes: float | None = None
    problem: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=CASES, action="append", help="cases; all but smoke")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--kernels", action="store_true", help="a row for each attention kernel")
    parser.add_argument("--remat", action="store_true", help="a row for each remat policy")
    arguments = parser.parse_args()
    print("| model | variant | tokens/s | MFU | peak memory | planned |")
    print("| --- | --- | --: | --: | --: | --: |")
    for name in arguments.only or [name for name in CASES if name != "smoke"]:
        for variant, overrides in _variants(arguments.kernels, arguments.remat):
            row = run(name, variant, overrides, arguments.steps)
            print(_line(row, planned(CASES[name], overrides)), flush=True)


def _variants(kernels: bool, remat: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "default", ()
    if kernels:
        for kernel in filter(None, KERNELS):
            yield f"attention.{kernel}", (f"model.**.attention.kernel={kernel}",)
    if remat:
        yield from ((f"remat: {name}", words) for name, words in REMAT.items() if words)


def run(name: str, variant: str, overrides: tuple[str, ...], steps: int) -> Row:
    """Trains a case for some steps."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        words = (*case.overrides, *overrides, f"max_step={steps}", f"log_every={steps // 3}")
        once = ("evaluations={}", "checkpoint.every=null")
        command = [sys.executable, "-m", "axlearn_core.cli.main", "train", case.experiment]
        done = subprocess.run(
            [*command, *words, *once, "--dir", folder], capture_output=True, text=True
        )
        if done.returncode:
            return Row(name, variant, problem=(done.stderr.strip().splitlines() or ["?"])[-1])
        lines = Path(folder, "performance.jsonl").read_text().splitlines()
    records = [r for r in map(json.loads, lines) if "tokens_per_second" in r]
    speed = statistics.median(record["tokens_per_second"] for record in records)
    facts = json.loads(_python(_FACTS, case.experiment, *case.overrides))
    flops = 6 * facts["parameters"] + 12 * case.layers * case.dim * case.seq_len
    peak = facts["peak_flops"]
    return Row(
        name,
        variant,
        speed,
        flops * speed / peak if peak else None,
        max((record.get("memory_peak_bytes", 0.0) for record in records), default=None),
    )


_FACTS = """
import json, math, os, sys
from axlearn_core.hardware import detect
from axlearn_core.module import flatten_paths
from axlearn_core.plugins import get_registry
from axlearn_core.training.assemble import assemble
hardware = detect(get_registry(), os.environ).hardware
import jax
cfg = assemble(sys.argv[1], sys.argv[2:], get_registry()).config
specs = flatten_paths(cfg.model.instantiate(name="model").parameter_specs()).values()
parameters = sum(math.prod(spec.shape) for spec in specs)
peak = hardware.peak_flops(jax.devices(), cfg.compute_dtype or "float32")
print(json.dumps({"parameters": parameters, "peak_flops": peak}))
"""


def _python(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def planned(case: Case, overrides: tuple[str, ...]) -> float | None:
    """Returns the peak that `axl plan` predicts for one of this machine's chips, None without."""
    machine = _python(_MACHINE).strip()
    command = [sys.executable, "-m", "axlearn_core.cli.main", "plan", case.experiment]
    words = (*case.overrides, *overrides, "--hardware", machine, "--json")
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    if done.returncode:
        return None
    memory = json.loads(done.stdout)["memory"]
    return float(
        sum(memory[part] for part in ("parameters", "optimizer", "other_state", "temporary"))
    )


_MACHINE = """
import os
from axlearn_core.hardware import detect
from axlearn_core.plugins import get_registry
hardware = detect(get_registry(), os.environ).hardware
import jax
devices = jax.devices()
chip = hardware.chip(devices[0].device_kind)
name = "cpu" if devices[0].platform == "cpu" else f"{devices[0].platform}-{chip.name}"
print(f"{name}-{len(devices)}")
"""


def _line(row: Row, plan: float | None) -> str:
    if row.problem:
        return f"| {row.case} | {row.variant} | {row.problem} | | | |"
    mfu = "" if row.mfu is None else f"{row.mfu:.1%}"
    peak = "" if not row.peak_bytes else f"{row.peak_bytes / 2**30:.1f} GiB"
    expected = "" if plan is None else f"{plan / 2**30:.1f} GiB"
    return (
        f"| {row.case} | {row.variant} | {row.tokens_per_second:,.0f} | {mfu} | {peak} "
        f"| {expected} |"
    )


if __name__ == "__main__":
    main()
