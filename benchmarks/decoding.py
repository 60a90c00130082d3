"""Greedy decoding, 64 tokens from 64, against the hand-written JAX decoder and transformers.

    python benchmarks/decoding.py --baselines FOLDER [--rounds 3] [--out FILE.md]

FOLDER holds `bench_decode_jax.py`, `bench_decode_hf.py` and `benchlib.py`. Each round runs the
programs one after the other, so that what else the machine does meets all of them; a figure is the
median of the rounds. Tokens per second count the prefill; the time to the first token is that of a
text of one token, or for `generate` until the first token comes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from run import environment, machine

PROGRAMS = {
    "hand-written JAX": "{baselines}/bench_decode_jax.py",
    "axlearn": "{here}/decoding.py --ours",
    "transformers, torch": "{baselines}/bench_decode_hf.py",
}
BATCHES = (1, 8)
PROMPT, TOKENS = 64, 64


def ours(batches: list[int], prompt: int, tokens: int, repeats: int) -> None:
    """Prints what the baselines print, for `generate` on a model with random weights."""
    import jax
    import numpy as np
    from workloads import SIZES, workload

    from axlearn_inference import LanguageModel, Request, Sampling, generate
    from axlearn_inference.unrolling import unrolled

    module = workload("small").model.instantiate(name="model")
    variables = jax.jit(module.initialize)(jax.random.key(0))
    vocab = SIZES["small"]["V"]
    model = unrolled(LanguageModel("small", module, variables, None, "float32", vocab))
    rng = np.random.default_rng(1)
    for batch in batches:
        requests = [
            Request(tuple(row), max_tokens=tokens, sampling=Sampling(temperature=0))
            for row in rng.integers(vocab, size=(batch, prompt)).tolist()
        ]
        firsts, seconds = [], []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            stream = generate(model, requests)
            next(stream)
            firsts.append(time.perf_counter() - began)
            count = 1 + sum(1 for _ in stream)
            seconds.append(time.perf_counter() - began)
            assert count == batch * tokens
        # The first time compiles.
        found = {
            "batch": batch,
            "median_s": statistics.median(seconds[1:]),
            "first_token_s": statistics.median(firsts[1:]),
            "first_s": seconds[0],
        }
        print("@@" + json.dumps(found), flush=True)


def measured(
    command: str, baselines: Path, tokens: int, repeats: int
) -> dict[int, dict[str, float]]:
    """Runs one program; returns its figures by batch."""
    words = f"{sys.executable} {command} --batches {','.join(map(str, BATCHES))} --n {repeats}"
    words += f" --prompt {PROMPT} --gen {tokens}"
    paths = os.pathsep.join([str(baselines), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        words.split(),
        check=True,
        env={**environment(baselines), "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [line[2:] for line in done.stdout.splitlines() if line.startswith("@@")]
    return {found["batch"]: found for found in map(json.loads, lines)}


def race(baselines: Path, rounds: int, repeats: int) -> dict[tuple[str, int], dict[str, float]]:
    """Returns medians of seconds for a whole text and to the first token, by program and batch."""
    seconds = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for name, form in PROGRAMS.items():
            command = form.format(baselines=baselines, here=Path(__file__).parent)
            whole = measured(command, baselines, TOKENS, repeats)
            # Ours tells the first token of a whole text.
            first = whole if name == "axlearn" else measured(command, baselines, 1, repeats)
            for batch in BATCHES:
                key = "first_token_s" if name == "axlearn" else "median_s"
                seconds[name, batch]["whole"].append(whole[batch]["median_s"])
                seconds[name, batch]["first"].append(first[batch][key])
    return {
        key: {what: statistics.median(values) for what, values in each.items()}
        for key, each in seconds.items()
    }


def table(found: dict[tuple[str, int], dict[str, float]]) -> str:
    """Writes figures and their ratios: above 1 is better than that program."""
    rows = [
        "## Greedy decoding, *small*, 64 tokens from 64\n",
        "| batch | program | tokens/s | axlearn's / this | first token ms | this / axlearn's |",
        "| --: | --- | --: | --: | --: | --: |",
    ]
    for batch in BATCHES:
        mine = found["axlearn", batch]
        for name in PROGRAMS:
            each = found[name, batch]
            rows.append(
                f"| {batch} | {name} | {batch * TOKENS / each['whole']:.1f} "
                f"| {each['whole'] / mine['whole']:.2f} "
                f"| {1000 * each['first']:.1f} | {each['first'] / mine['first']:.2f} |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baselines", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--n", type=int, default=5, help="Texts in a row, of each program.")
    parser.add_argument("--ours", action="store_true", help="Measure this side alone.")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--prompt", type=int, default=PROMPT)
    parser.add_argument("--gen", type=int, default=TOKENS)
    args = parser.parse_args()
    if args.ours:
        ours([int(b) for b in args.batches.split(",")], args.prompt, args.gen, args.n)
        return
    if args.baselines is None:
        parser.error("--baselines FOLDER is needed")
    text = f"{table(race(args.baselines.resolve(), args.rounds, args.n))}\n\n{machine()}\n"
    print(text)
    if args.out:
        args.out.write_text(f"# Decoding\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
