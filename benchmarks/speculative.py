"""Tokens a second with drafts, against the model alone, in one process.

    python benchmarks/speculative.py [--folder FOLDER] [--batch 1] [--draft-tokens 2,4,8]

A model of 10M parameters and a draft of 0.2M learn the bundled novel, which takes some minutes;
FOLDER keeps them for the next time. Both go on from parts of it that they have not seen. All ways
run one after the other in each round, so that what else the machine does meets all of them; a
figure is the median of the rounds, and what compiles does not count. Tokens per second count the
prefill.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from axlearn_core.training import Trainer
from axlearn_experiments.text import moby_dick, trainer
from axlearn_inference import LanguageModel, Request, Sampling, complete, load
from axlearn_layers.families import llama

VOCAB, LENGTH = 1024, 128
PROMPT = 32  # tokens
TEMPERATURES = (0.0, 1.0)


def experiment(max_step: int, **sizes: int) -> Trainer.Config:
    model = llama(vocab_size=VOCAB, **sizes, tied=True, embedding_scale=sizes["dim"] ** 0.5)
    data = moby_dick(vocab_size=VOCAB, seq_len=LENGTH, batch_size=8)
    return trainer(model, data, peak_rate=2e-3, max_step=max_step)


def target() -> Trainer.Config:
    return experiment(400, dim=384, num_layers=6, num_heads=6, num_kv_heads=3, hidden_dim=1024)


def draft() -> Trainer.Config:
    return experiment(1000, dim=96, num_layers=1, num_heads=2, num_kv_heads=1, hidden_dim=256)


def trained(folder: Path) -> tuple[LanguageModel, LanguageModel]:
    """Trains in the folder, if nobody has, and moves there; returns the target and the draft."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.chdir(folder)  # what a run knows of its data is relative
    data = f"prepared/moby_dick-{VOCAB}-{LENGTH}"
    sizes = f"--vocab-size {VOCAB} --seq-len {LENGTH}"
    for made, command in (
        (data, f"data prepare moby_dick --tokenizer sentencepiece {sizes} --dir {data}"),
        ("target", "train speculative:target --dir target"),
        ("draft", "train speculative:draft --dir draft"),
    ):
        if not Path(made).exists():
            subprocess.run(["axl", *command.split()], check=True, stdout=sys.stderr)
    return load(Path("target")), load(Path("draft"))


def prompts(count: int) -> list[tuple[int, ...]]:
    data = target().input.clone(split="validation", batch_size=count).instantiate()
    return [tuple(row) for row in next(data.batches())["input_ids"][:, :PROMPT].tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="Of the runs.  [default: a new one, for once]")
    parser.add_argument("--tokens", type=int, default=128, help="Of each text.")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--draft-tokens", default="2,4,8")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model, small = trained(folder)
        counts = [int(word) for word in arguments.draft_tokens.split(",")]
        race(model, small, counts, arguments)


def race(
    model: LanguageModel, small: LanguageModel, counts: list[int], arguments: argparse.Namespace
) -> None:
    from axlearn_inference.speculative import LookupDraft, ModelDraft, SpeculativeDecoder

    print(f"{arguments.batch} x {arguments.tokens} tokens from {PROMPT}\n")
    print("| temperature | draft | proposes | accepted | tokens per step | tokens/s | ratio |")
    print("| --: | --- | --: | --: | --: | --: | --: |")
    begins = prompts(arguments.batch)
    for temperature in TEMPERATURES:
        requests = [
            Request(begin, arguments.tokens, Sampling(temperature=temperature, seed=seed))
            for seed, begin in enumerate(begins)
        ]
        racers: dict[tuple[str, int], SpeculativeDecoder | None] = {("none", 0): None}
        for k in counts:
            racers["lookup", k] = SpeculativeDecoder(model, LookupDraft(VOCAB, k))
            racers["model", k] = SpeculativeDecoder(model, ModelDraft(small, k))
        seconds = defaultdict(list)
        for number in range(arguments.rounds + 1):
            for key, decoder in racers.items():
                start = time.perf_counter()
                complete(model, requests, decoder)
                if number:  # the first time compiles
                    seconds[key].append(time.perf_counter() - start)
        tokens = arguments.tokens * arguments.batch
        alone = statistics.median(seconds["none", 0])
        for (name, k), decoder in sorted(racers.items(), key=lambda item: item[0][0]):
            taken = statistics.median(seconds[name, k])
            accepted, per_step = "", "1.00"
            if decoder is not None:
                found = decoder.statistics
                accepted, per_step = f"{found.acceptance:.0%}", f"{found.tokens_per_step:.2f}"
            print(
                f"| {temperature:g} | {name} | {k} | {accepted} | {per_step} "
                f"| {tokens / taken:.1f} | {alone / taken:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
