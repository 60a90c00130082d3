"""A server on a free port, whose model says what a test wants, and its clients."""

import asyncio
import contextlib
import re
import threading
from dataclasses import dataclass

import httpx
import numpy as np
import openai
import pytest

from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.server.api import Api
from axlearn_inference.server.options import Options
from axlearn_inference.server.running import Server, listen, url_of
from axlearn_inference.server.scripted import Scripted
from axlearn_inference.server.serving import Served, Serving

CHATML = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}\
{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\
{{ '<|im_end|>\n' }}{% endfor %}\
{% if tools %}{{ '<|im_start|>system\nTools: ' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


class ChatBytes(Tokenizer):
    """Bytes, and special tokens behind them."""

    class Config(Tokenizer.Config):
        names: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

    def __init__(self, config):
        super().__init__(config)
        self.special_names = self._names = config.names
        self.special_tokens = {"bos_token": config.names[0], "eos_token": config.names[-1]}
        self.vocab_size = 256 + len(config.names)
        self.bos_id, self.eos_id, self.pad_id = 256, self.vocab_size - 1, 256

    def encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def encode_markup(self, text):
        split = re.split("(" + "|".join(map(re.escape, self._names)) + ")", text)
        ids = []
        for part in split:
            if part in self._names:
                ids.append(256 + self._names.index(part))
            else:
                ids += part.encode()
        return np.array(ids, np.int32)

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    def fingerprint(self):
        return "chat bytes"

    def pieces(self):
        return [*(bytes([byte]) for byte in range(256)), *(None for _ in self._names)]


@pytest.fixture(scope="session")
def tokenizer():
    return ChatBytes.default_config().instantiate()


def http():
    return httpx.Client(verify=False, timeout=20)  # reading the certificates takes 0.2 s each time


@dataclass
class Script:
    """What the model says, and what it was asked."""

    text: str
    asked: list
    prompts: list

    def __call__(self, request, prompt):
        self.asked.append(request)
        self.prompts.append(prompt)
        return self.text


@dataclass
class Running:
    url: str
    api: Api
    script: Script
    serving: Serving
    server: Server
    loop: asyncio.AbstractEventLoop

    def client(self, key="none"):
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=http()
        )

    def post(self, path, json=None, **options):
        with http() as client:
            return client.post(f"{self.url}{path}", json=json, **options)

    def get(self, path, **options):
        with http() as client:
            return client.get(f"{self.url}{path}", **options)

    def stats(self):
        return self.serving.stats()


@contextlib.contextmanager
def running(
    tokenizer,
    *,
    text="Hello!",
    template=CHATML,
    constraints=None,
    adapters=tuple,
    options=None,
    make=Scripted,
    **model,
):
    """Runs a server in a thread, whose model says `text`. `model` are arguments of `make`."""
    script = Script(text, asked=[], prompts=[])
    serving = make(tokenizer, script, **model)
    served = Served("tiny", serving, tokenizer, 512, template, constraints, adapters)
    server = Server(Api(options or Options()))
    listener = listen("127.0.0.1", 0)
    ready, loops = threading.Event(), []

    async def run():
        loops.append(asyncio.get_running_loop())
        await server.run_until_stopped(listener, lambda: served, ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(20)
    try:
        yield Running(url_of(listener), server.api, script, serving, server, loops[0])
    finally:
        with contextlib.suppress(RuntimeError):  # it may have stopped
            loops[0].call_soon_threadsafe(server.stop)
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def start(tokenizer):
    """Starts servers of a test's own."""
    return lambda **options: running(tokenizer, **options)


@pytest.fixture(scope="session")
def shared_server(tokenizer):
    with running(tokenizer, adapters=lambda: ["pirate"]) as server:
        yield server


@pytest.fixture
def server(shared_server):
    shared_server.script.text = "Hello!"
    shared_server.script.asked.clear()
    shared_server.script.prompts.clear()
    return shared_server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client
