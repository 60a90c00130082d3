"""Rows of a batch use adapters of their own, which come and go without compiling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import replace
from axlearn_core.errors import UserError
from axlearn_core.module import functional
from axlearn_inference.engine import Adapters
from axlearn_inference.request import Request, Sampling
from axlearn_layers import DoRA, LoRA, Projection

GREEDY = Sampling(temperature=0)
PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5)


def adapter(model, *, rank, alpha, seed, kind=LoRA):
    """Returns a model with adapters, their arrays by path, and its parameters."""
    cfg = model.module.config.clone()
    around = kind.default_config().set(rank=rank, alpha=alpha)
    replace(cfg.stack, Projection, lambda old: around.clone(inner=old))
    module = cfg.instantiate()
    arrays, keys = {}, iter(jax.random.split(jax.random.key(seed), 100))

    def filled(specs, base, path=""):
        if not isinstance(specs, dict):
            return base
        if "inner" in specs and "a" in specs:
            own = {
                name: jax.random.normal(next(keys), specs[name].shape) * 0.3 for name in ("a", "b")
            }
            arrays.update({f"{path}{name}": np.asarray(array) for name, array in own.items()})
            return {**own, "inner": base}
        return {name: filled(specs[name], base[name], f"{path}{name}.") for name in specs}

    return module, arrays, filled(module.parameter_specs(), model.variables)


def greedy_of(module, variables, prompt, count):
    @jax.jit
    def following(ids, length):
        scores, _ = functional(
            module,
            state=variables,
            prng_key=None,
            inputs=({"input_ids": ids[None]},),
            method="logits",
        )
        return jnp.argmax(scores[0, length - 1])

    ids = np.zeros(16, np.int32)
    ids[: len(prompt)] = prompt
    for length in range(len(prompt), len(prompt) + count):
        ids[length] = following(ids, length)
    return ids[len(prompt) : len(prompt) + count].tolist()


@pytest.fixture(scope="module")
def served(model):
    return Adapters(model, places=2, rank=4)


def test_three_rows_have_the_texts_of_their_own_adapters(
    model, served, make_engine, greedy, finish_all
):
    made = {
        "low": adapter(model, rank=2, alpha=6.0, seed=1),
        "high": adapter(model, rank=4, alpha=4.0, seed=2),
        "later": adapter(model, rank=4, alpha=8.0, seed=3),
    }
    expected = {name: greedy_of(m, v, PROMPT, 5) for name, (m, _, v) in made.items()}
    expected[None] = greedy(PROMPT, 5)
    assert len({tuple(text) for text in expected.values()}) == 4
    engine = make_engine(adapters=served, share="adapters", max_length=16)
    for name in ("low", "high"):
        served.load(name, *made[name][:2])

    def ask(*names):
        handles = [engine.submit(Request(PROMPT, 5, GREEDY, adapter=name)) for name in names]
        texts = finish_all(engine)
        assert [texts[handle] for handle in handles] == [expected[name] for name in names]

    ask("low", None, "high")
    programs = engine.stats().programs
    ask("high", "low", None)  # these find pages, each its own
    assert engine.stats().found == 3 * 8

    handle = engine.submit(Request(PROMPT, 5, GREEDY, adapter="low"))
    with pytest.raises(UserError, match="1 requests use the adapter 'low'"):
        engine.unload("low")
    engine.cancel(handle)
    engine.unload("low")
    served.load("later", *made["later"][:2])
    ask("later", "high", None)

    # One of the same name and other weights finds no page of the one before.
    engine.unload("later")
    served.load("later", *made["low"][:2])
    expected["later"] = expected["low"]
    ask("later", "high", None)
    assert engine.stats().programs == programs
    engine.unload("later")
    engine.unload("high")


def test_adapters_that_do_not_fit_are_refused(model, served, make_engine):
    engine = make_engine(adapters=served, share="adapters", max_length=16)
    module, arrays, _ = adapter(model, rank=4, alpha=4.0, seed=2)
    with pytest.raises(UserError, match="no adapter 'x'; none is loaded"):
        engine.submit(Request(PROMPT, adapter="x"))
    with pytest.raises(UserError, match=r"has rank 8, and places are for a rank of at most 4"):
        served.load("x", *adapter(model, rank=8, alpha=4.0, seed=2)[:2])
    with pytest.raises(UserError, match="is a DoRA; only LoRA"):
        served.load("x", *adapter(model, rank=4, alpha=4.0, seed=2, kind=DoRA)[:2])
    with pytest.raises(UserError, match="has no LoRA"):
        served.load("x", model.module, {})
    name = next(iter(arrays))
    with pytest.raises(UserError, match="has shape"):
        served.load("x", module, {**arrays, name: arrays[name][:, :1]})
    with pytest.raises(UserError, match="arrays lack"):
        served.load("x", module, {})
    served.load("x", module, arrays)
    served.load("y", module, arrays)
    with pytest.raises(UserError, match="'x' is loaded already"):
        served.load("x", module, arrays)
    with pytest.raises(UserError, match="all places are taken, by x, y"):
        served.load("z", module, arrays)
    with pytest.raises(UserError, match="no adapter 'z'; loaded are x, y"):
        engine.submit(Request(PROMPT, adapter="z"))
    served.unload("x")
    served.unload("y")
