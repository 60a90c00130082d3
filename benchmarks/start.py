"""From the command to the end of the first step: `axl train` against the hand-written script.

Both start cold (no compilation cache), in turn, several times.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
VARIANT = "remattn,liger,blk"


def seconds_until(command: list[str], pattern: str, folder: Path) -> float:
    """Runs a command until it prints a line that matches, and returns how long that took."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(HERE)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.search(pattern, line):
                took = time.perf_counter() - start
                process.kill()
                return took
    raise RuntimeError(f"{' '.join(command)} ended without printing {pattern!r}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--baselines", type=Path, required=True)
    parser.add_argument("--work", default="small")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    script = [sys.executable, str(args.baselines / "bench_limit.py")]
    by_hand = [*script, "--work", args.work, "--variant", VARIANT]
    ours = [sys.executable, "-m", "axlearn_core.cli.main", "train", f"workloads:{args.work}"]
    pairs = []
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            hand = seconds_until(by_hand, '"ready"', Path(folder))
            axl = seconds_until([*ours, "--dir", "run"], r"^step +1/", Path(folder))
            pairs.append((hand, axl))
    hand, axl = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(json.dumps({"hand_written_s": hand, "axl_train_s": axl, "difference_s": axl - hand}))


if __name__ == "__main__":
    main()
