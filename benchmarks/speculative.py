"""Tokens a second with drafts, against the model alone, in one process.

    python benchmarks/speculative.py --tokens 128 --batch 1

The model has the shape of the workload `small`. Its weights are random, but all layers after the
first are multiplied by a strength: with 0 they do nothing, and the first layer alone, as a draft,
is always right; the larger, the more often it is wrong. So speed is seen over the acceptance that a
trained draft may have. Of the lookup draft the texts are greedy, which with random weights soon
repeat themselves: it is always right, and shows what judging costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
from workloads import SIZES

from axlearn_inference.decoding import complete
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import Request, Sampling
from axlearn_inference.speculative import Draft, LookupDraft, ModelDraft, SpeculativeDecoder
from axlearn_layers.families import llama

SIZE = SIZES["small"]
STRENGTHS = (0.0, 0.1, 0.2, 0.4)
PROMPT = 32  # tokens
SHARPNESS = 4.0  # of random scores, which would be flat otherwise
ROUNDS = 3  # of each in turn; the best counts


def language_model(layers: int) -> LanguageModel:
    cfg = llama(
        vocab_size=SIZE["V"],
        dim=SIZE["d"],
        num_layers=layers,
        num_heads=SIZE["H"],
        num_kv_heads=SIZE["KV"],
        hidden_dim=SIZE["F"],
    )
    module = cfg.instantiate()
    state = jax.jit(module.initialize)(jax.random.key(0))
    state["head"]["weight"] *= SHARPNESS
    return LanguageModel("small", module, state, None, "float32", SIZE["V"])


def weakened(model: LanguageModel, strength: float) -> LanguageModel:
    """Returns the model with all layers after the first as strong as that."""
    layer = model.variables["stack"]["layer"]

    def weaken(x: jax.Array) -> jax.Array:
        return x.at[1:].multiply(strength)

    for name, projection in (("attention", "output"), ("feed_forward", "down")):
        part = layer[name][projection]
        projections = {**layer[name], projection: {**part, "weight": weaken(part["weight"])}}
        layer = {**layer, name: projections}
    variables = {**model.variables, "stack": {"layer": layer}}
    return LanguageModel(model.name, model.module, variables, None, "float32", SIZE["V"])


def first_layer(model: LanguageModel) -> LanguageModel:
    stack = jax.tree.map(lambda x: x[:1], model.variables["stack"])
    small = language_model(1)
    variables = {**model.variables, "stack": stack}
    return LanguageModel("first layer", small.module, variables, None, "float32", SIZE["V"])


def alone(model: LanguageModel, requests: list[Request]) -> Callable[[], None]:
    def run() -> None:
        complete(model, requests)

    return run


def with_draft(decoder: SpeculativeDecoder, requests: list[Request]) -> Callable[[], None]:
    def run() -> None:
        complete(decoder.target, requests, decoder)

    return run


def rates(racers: dict[str, Callable[[], None]], tokens: int) -> dict[str, float]:
    for run in racers.values():
        run()  # compiles
    best = dict.fromkeys(racers, 0.0)
    for _ in range(ROUNDS):
        for name, run in racers.items():
            start = time.perf_counter()
            run()
            best[name] = max(best[name], tokens / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=128, help="of each text")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--draft-tokens", type=int, default=4)
    arguments = parser.parse_args()
    full = language_model(SIZE["L"])
    print("| draft | accepted | tokens per step | tokens/s | alone | ratio |")
    print("| --- | --: | --: | --: | --: | --: |")
    for strength, greedy in [*((each, False) for each in STRENGTHS), (1.0, True)]:
        model = weakened(full, strength)
        draft: Draft
        if greedy:
            name, draft = "lookup, greedy", LookupDraft(SIZE["V"], arguments.draft_tokens)
        else:
            name = f"first layer, the others {strength}"
            draft = ModelDraft(first_layer(model), arguments.draft_tokens)
        requests = [
            Request(
                tuple(range(seed, seed + PROMPT)),
                max_tokens=arguments.tokens,
                sampling=Sampling(temperature=0 if greedy else 1, seed=seed),
            )
            for seed in range(arguments.batch)
        ]
        decoder = SpeculativeDecoder(model, draft)
        racers = {"alone": alone(model, requests), "draft": with_draft(decoder, requests)}
        found = rates(racers, arguments.tokens * arguments.batch)
        statistics = decoder.statistics
        print(
            f"| {name} | {statistics.acceptance:.0%} | {statistics.tokens_per_step:.2f} "
            f"| {found['draft']:.1f} | {found['alone']:.1f} "
            f"| {found['draft'] / found['alone']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
