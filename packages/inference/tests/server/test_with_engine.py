"""The server on a real engine, with a model that knows nothing and real constraints."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import jax
import jsonschema
import numpy as np
import openai
import pytest

from axlearn_core.config import replace
from axlearn_core.module import flatten_paths
from axlearn_inference.constraints import Constraints
from axlearn_inference.engine import Adapters, AsyncEngine, Engine
from axlearn_inference.model import LanguageModel
from axlearn_layers import LoRA, Projection
from axlearn_layers.families import llama

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}


def config(tokenizer):
    sizes = {"dim": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "hidden_dim": 16}
    return llama(vocab_size=tokenizer.vocab_size, **sizes)


def pirate(cfg):
    """Returns the model with an adapter around its projections, and its arrays, which are large."""
    cfg, rng = cfg.clone(), np.random.default_rng(0)
    replace(cfg.stack, Projection, lambda old: LoRA.Config(inner=old, rank=2))
    module = cfg.instantiate()
    specs = flatten_paths(module.parameter_specs()).items()
    own = {path.replace("/", "."): spec for path, spec in specs if path.endswith(("/a", "/b"))}
    return module, {path: 3 * rng.normal(size=spec.shape) for path, spec in own.items()}


@pytest.fixture(scope="module")
def server(start, tokenizer):
    cfg = config(tokenizer)
    module = cfg.instantiate()
    variables = jax.jit(module.initialize)(jax.random.key(0))
    vocab_size = tokenizer.vocab_size
    model = LanguageModel("tiny", module, variables, tokenizer, "float32", vocab_size)
    loaded = Adapters(model, places=1, rank=2)
    loaded.load("pirate", *pirate(cfg))
    sizes = {"slots": 4, "max_length": 512, "page_size": 128, "prefill_tokens": 16}
    engine = (
        Engine.default_config().set(**sizes, queue_size=8).instantiate(model=model, adapters=loaded)
    )
    with start(
        template="{{ messages[0].content }}",
        make=lambda *_: AsyncEngine(engine),
        constraints=Constraints(tokenizer),
        adapters=lambda: loaded.names,
    ) as server:
        yield server


def test_the_same_seeds_give_the_same_texts_beside_other_requests(server):
    with server.client() as client:
        ask = {**ASK, "seed": 3, "max_tokens": 8}
        one, two = (client.chat.completions.create(**ask, n=2) for _ in range(2))
        alone = client.chat.completions.create(**{**ask, "seed": 4})
    texts = [choice.message.content for choice in one.choices]
    assert [choice.message.content for choice in two.choices] == texts
    assert alone.choices[0].message.content == texts[1]
    assert texts[0] != texts[1]


def test_an_adapter_answers_beside_the_model_and_comes_and_goes(server, tokenizer):
    def change(function):
        asyncio.run_coroutine_threadsafe(server.serving.call(function), server.loop).result(60)

    def text(name):
        return client.completions.create(model=name, prompt="a", max_tokens=8, temperature=0)

    with server.client() as client, ThreadPoolExecutor() as pool:
        assert [model.id for model in client.models.list()] == ["tiny", "pirate"]
        names = ["tiny", "pirate", "tiny", "pirate"]
        texts = [done.choices[0].text for done in pool.map(text, names)]
        assert texts[0] == texts[2] != texts[1] == texts[3]
        change(lambda engine: engine.unload("pirate"))
        with pytest.raises(openai.NotFoundError, match="there is no model 'pirate'"):
            text("pirate")
        change(lambda engine: engine.adapters.load("pirate", *pirate(config(tokenizer))))
        assert text("pirate").choices[0].text == texts[1]


def test_an_answer_has_its_schema(server):
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    with server.client() as client:
        done = client.chat.completions.create(**ASK, response_format=response_format)
    jsonschema.validate(json.loads(done.choices[0].message.content), SCHEMA)


def test_a_forced_call_has_the_schema_of_its_function(server):
    functions = {"weather": SCHEMA, "sea": {"$defs": {"a": SCHEMA}, "$ref": "#/$defs/a"}}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": parameters}}
        for name, parameters in functions.items()
    ]
    with server.client() as client:
        for seed in range(3):
            done = client.chat.completions.create(
                **ASK, tools=tools, tool_choice="required", seed=seed
            )
            (call,) = done.choices[0].message.tool_calls
            assert call.function.name in functions
            jsonschema.validate(json.loads(call.function.arguments), SCHEMA)


def test_a_schema_that_cannot_be_followed_is_named(server):
    response_format = {"type": "json_schema", "json_schema": {"schema": {"type": "cat"}}}
    answer = server.post("/v1/chat/completions", {**ASK, "response_format": response_format})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format")


def test_a_stream_that_is_closed_gives_its_pages_back(server):
    with server.client() as client:
        stream = client.completions.create(
            model="tiny", prompt="a", max_tokens=500, stream=True, logprobs=0
        )
        next(iter(stream))
        assert server.stats().pages_used > 0
        stream.close()
        for _ in range(200):
            client.models.list()
            if server.stats().pages_used == 0:
                break
    assert server.stats().pages_used == server.stats().running == 0
