"""From the start of a process to the first token: the first start against the second one.

Each start is a process of its own that builds the model, compiles ahead for all buckets of the
engine and generates a token. The second one finds the programs that the first one has compiled.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time


def start(size: str, slots: int, folder: str) -> None:
    """What one process does; prints how long compiling ahead took."""
    from serving import GREEDY, language_model

    from axlearn_core.training.compile_cache import use_compile_cache
    from axlearn_inference import Request
    from axlearn_inference.engine import Engine

    use_compile_cache(folder)  # before the parameters are made
    model = language_model(size)
    cfg = Engine.default_config().set(slots=slots, max_length=1024)
    engine: Engine = cfg.instantiate(model=model)
    before = time.perf_counter()
    engine.compile_ahead()
    seconds = time.perf_counter() - before
    engine.submit(Request((1, 2, 3), 1, GREEDY))
    while engine.busy:
        engine.step()
    print(json.dumps({"compile_s": seconds, "programs": engine.stats().programs}), flush=True)


def seconds_of(words: list[str]) -> tuple[float, dict[str, float]]:
    before = time.perf_counter()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return time.perf_counter() - before, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="small")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--compile-cache", help="of one start; without it two are compared")
    args = parser.parse_args()
    if args.compile_cache is not None:
        start(args.size, args.slots, args.compile_cache)
        return
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--size", args.size, "--slots", str(args.slots)]
        first, first_told = seconds_of([*words, "--compile-cache", folder])
        second, second_told = seconds_of([*words, "--compile-cache", folder])
    print(
        json.dumps(
            {
                "first_start_s": first,
                "second_start_s": second,
                "ratio": first / second,
                "first_compile_s": first_told["compile_s"],
                "second_compile_s": second_told["compile_s"],
                "programs": first_told["programs"],
            }
        )
    )


if __name__ == "__main__":
    main()
