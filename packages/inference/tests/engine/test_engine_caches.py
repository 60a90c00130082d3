"""What a model remembers may be of any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import replace
from axlearn_core.module import functional
from axlearn_inference.caches.int8 import Int8Cache
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import Request, Sampling
from axlearn_layers import ContiguousCache
from axlearn_layers.families import deepseek_v3, llama, mamba2

VOCAB = 67
SIZES = {"vocab_size": VOCAB, "dim": 16, "num_layers": 2}


def latent():
    return deepseek_v3(
        **SIZES,
        num_heads=2,
        query_rank=8,
        kv_rank=8,
        content_dim=4,
        rotary_dim=4,
        value_dim=4,
        hidden_dim=24,
        expert_hidden_dim=8,
        num_dense_layers=1,
        num_experts=4,
        top_k=2,
        num_groups=1,
        top_groups=1,
    )


def recurrent():
    return mamba2(**SIZES, state_dim=8, head_dim=8)


def int8():
    cfg = llama(**SIZES, num_heads=4, num_kv_heads=2, hidden_dim=24)
    replace(cfg, ContiguousCache, Int8Cache.default_config())
    return cfg


@pytest.mark.parametrize("make_config", [latent, recurrent, int8])
def test_texts_are_those_of_one_by_one(make_config, make_engine, finish_all):
    module = make_config().instantiate()
    variables = jax.jit(module.initialize)(jax.random.key(0))
    model = LanguageModel("tiny", module, variables, None, "float32", VOCAB)
    name = make_config.__name__
    engine = make_engine(model, name, slots=2, max_length=16, num_pages=5)
    rng = np.random.default_rng(0)
    prompts = [tuple(map(int, rng.integers(VOCAB, size=size))) for size in (3, 9, 4, 6)]
    prompts.append(prompts[1])  # begins in a slot, and with pages, that others had
    handles = [engine.submit(Request(each, 5, Sampling(temperature=0))) for each in prompts]
    texts = finish_all(engine)
    assert engine.stats().preemptions > 0
    assert (engine.stats().found > 0) == (name != "recurrent")
    read = reader(module, variables)
    for handle, prompt in zip(handles, prompts, strict=True):
        assert texts[handle] == read(prompt, 5)


def reader(module, variables):
    """Reads id by id with the cache that the model had."""

    @jax.jit
    def extend(cache, token):
        (scores, cache), _ = functional(
            module,
            state=variables,
            prng_key=None,
            inputs=(token[None, None], cache),
            method="extend",
        )
        return cache, jnp.argmax(scores[0, -1])

    def read(prompt, count):
        cache, ids = module.init_cache(1, 16, "float32"), list(prompt)
        for index in range(len(prompt) + count - 1):
            cache, following = extend(cache, jnp.asarray(ids[index]))
            if index >= len(prompt) - 1:
                ids.append(int(following))
        return ids[len(prompt) :]

    return read
