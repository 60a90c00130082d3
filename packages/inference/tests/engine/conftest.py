"""A tiny model, engines of it, and its greedy texts without any cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import functional
from axlearn_inference.engine import Engine
from axlearn_inference.model import LanguageModel
from axlearn_layers.families import llama

VOCAB = 67
LONGEST = 64


@pytest.fixture(scope="session")
def model():
    cfg = llama(vocab_size=VOCAB, dim=16, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=24)
    return language_model(cfg)


def language_model(cfg, seed=0):
    module = cfg.instantiate()
    variables = jax.jit(module.initialize)(jax.random.key(seed))
    return LanguageModel("tiny", module, variables, None, "float32", VOCAB)


@pytest.fixture(scope="session")
def make_engine(model):
    """Engines of one config share what is compiled."""
    programs = {}

    def make(model=model, share="tiny", **fields):
        clock = fields.pop("clock", lambda: 0.0)
        adapters = fields.pop("adapters", None)
        sizes = {"slots": 4, "max_length": LONGEST, "page_size": 4, "prefill_tokens": 16}
        cfg = Engine.default_config().set(**{**sizes, "num_pages": 40, **fields})
        engine = cfg.instantiate(model=model, adapters=adapters, clock=clock)
        key = (share, engine.config.num_pages, engine.config.slots)
        engine._programs = programs.setdefault(key, engine._programs)
        return engine

    return make


@pytest.fixture(scope="session")
def greedy(model):
    """Continues a prompt by reading everything anew for each token."""

    @jax.jit
    def following(ids, length):
        scores, _ = functional(
            model.module,
            state=model.variables,
            prng_key=None,
            inputs=({"input_ids": ids[None]},),
            method="logits",
        )
        return jnp.argmax(scores[0, length - 1])

    def text(prompt, count):
        ids = np.zeros(LONGEST, np.int32)
        ids[: len(prompt)] = prompt
        for length in range(len(prompt), len(prompt) + count):
            ids[length] = following(ids, length)
        return ids[len(prompt) : len(prompt) + count].tolist()

    return text


@pytest.fixture(scope="session")
def finish_all():
    return _finish_all


def _finish_all(engine, *, steps=2000):
    """Steps until nothing is left, and returns the ids of each handle's text."""
    texts = {}
    for _ in range(steps):
        if not engine.busy:
            return texts
        for handle, token in engine.step():
            texts.setdefault(handle, []).append(token.id)
    raise AssertionError(f"not done after {steps} steps")
