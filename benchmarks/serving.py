"""Continuous against static batching: the same requests, in one process, in turn.

Lengths of prompts and texts are log-normal, as those of conversations (ShareGPT's have a long
tail), scaled down. Static batching takes requests in the order in which they came, pads them to the
longest and waits until all of a batch have ended. Both have the same number of rows, draw greedily,
and are compiled before the clock starts. With --soak, requests come one by one and many are given
up half way.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

import jax
import numpy as np

from axlearn_inference import LanguageModel, Request, Sampling, generate
from axlearn_inference.engine import Engine
from axlearn_inference.unrolling import unrolled
from axlearn_layers.families import llama

SIZES = {
    "tiny": {"dim": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "hidden_dim": 128},
    "small": {"dim": 256, "num_layers": 8, "num_heads": 8, "num_kv_heads": 4, "hidden_dim": 768},
}
VOCAB = 2048
GREEDY = Sampling(temperature=0)


def language_model(size: str) -> LanguageModel:
    module = llama(vocab_size=VOCAB, **SIZES[size]).instantiate()
    variables = jax.jit(module.initialize)(jax.random.key(0))
    return unrolled(LanguageModel(size, module, variables, None, "float32", VOCAB))


def requests(count: int, longest: int, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    prompts = np.clip(rng.lognormal(3.0, 1.0, count), 2, longest // 2).astype(int)
    texts = np.clip(rng.lognormal(3.3, 0.8, count), 2, longest // 2).astype(int)
    return [
        Request(tuple(rng.integers(VOCAB, size=prompt).tolist()), int(text), GREEDY)
        for prompt, text in zip(prompts, texts, strict=True)
    ]


def continuous(engine: Engine, asked: list[Request]) -> tuple[dict[int, list[int]], float, float]:
    """Returns the texts, the seconds they took, and the median time to a first token."""
    start = time.perf_counter()
    handles = {engine.submit(request): index for index, request in enumerate(asked)}
    texts: dict[int, list[int]] = {index: [] for index in range(len(asked))}
    first: dict[int, float] = {}
    while engine.busy:
        for handle, token in engine.step():
            texts[handles[handle]].append(token.id)
            first.setdefault(handle, time.perf_counter() - start)
    return texts, time.perf_counter() - start, statistics.median(first.values())


def static(
    model: LanguageModel, asked: list[Request], rows: int
) -> tuple[dict[int, list[int]], float, float]:
    """As `continuous`, in batches of so many rows."""
    start = time.perf_counter()
    texts: dict[int, list[int]] = {index: [] for index in range(len(asked))}
    first: dict[int, float] = {}
    for begin in range(0, len(asked), rows):
        for index, token in generate(model, asked[begin : begin + rows]):
            texts[begin + index].append(token.id)
            first.setdefault(begin + index, time.perf_counter() - start)
    return texts, time.perf_counter() - start, statistics.median(first.values())


def compare(args: argparse.Namespace) -> None:
    model = language_model(args.size)
    asked = requests(args.requests, args.longest, args.seed)
    engine = make_engine(model, args)
    engine.compile_ahead()
    static(model, asked, args.slots)  # compiles
    ratios, results = [], {}
    for _ in range(args.rounds):
        by_engine, ours, ours_first = continuous(engine, asked)
        by_static, theirs, theirs_first = static(model, asked, args.slots)
        ratios.append(theirs / ours)
        tokens = sum(map(len, by_engine.values()))
        results = {
            "engine_tokens_per_s": tokens / ours,
            "static_tokens_per_s": tokens / theirs,
            "engine_first_token_s": ours_first,
            "static_first_token_s": theirs_first,
            "texts_alike": by_engine == by_static,
        }
    one_by_one = [[token.id for _, token in generate(model, [each])] for each in asked]
    differing = [i for i, text in enumerate(one_by_one) if text != by_engine[i]]
    print(json.dumps({**results, "throughput_ratio": statistics.median(ratios)}))
    print(json.dumps({"texts_unlike_one_by_one": differing, **engine.stats()._asdict()}))


def make_engine(model: LanguageModel, args: argparse.Namespace) -> Engine:
    cfg = Engine.default_config().set(
        slots=args.slots, max_length=args.longest, prefill_tokens=64, queue_size=args.requests
    )
    engine: Engine = cfg.instantiate(model=model)
    return engine


def soak(args: argparse.Namespace) -> None:
    engine = make_engine(language_model(args.size), args)
    rng = random.Random(args.seed)
    alive: list[int] = []
    waiting = requests(args.requests, args.longest, args.seed)
    ended = cancelled = 0
    start = time.perf_counter()
    while waiting or engine.busy:
        while waiting and rng.random() < 0.7:
            alive.append(engine.submit(waiting.pop()))
        if alive and rng.random() < 0.3:
            engine.cancel(alive.pop(rng.randrange(len(alive))))
            cancelled += 1
        for handle, token in engine.step():
            if token.finish:
                alive.remove(handle)
                ended += 1
    result = {"ended": ended, "cancelled": cancelled, "seconds": time.perf_counter() - start}
    print(json.dumps({**result, **engine.stats()._asdict()}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--longest", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", action="store_true")
    args = parser.parse_args()
    soak(args) if args.soak else compare(args)


if __name__ == "__main__":
    main()
