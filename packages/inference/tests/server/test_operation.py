"""What operators count on: health, keys, limits, deadlines, cancelling, draining, figures."""

import asyncio
import contextlib
import json
import logging
import socket
import time

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from axlearn_core.errors import UserError
from axlearn_inference.server.api import Api
from axlearn_inference.server.options import Options
from axlearn_inference.server.running import Server, listen, url_of
from axlearn_inference.server.scripted import Scripted
from axlearn_inference.server.serving import Served

ASK = {"model": "tiny", "prompt": "a", "max_tokens": 400}
LONG = "x" * 400


def soon(condition):
    """Waits until something is true; what happens is what counts, not when."""
    for _ in range(2000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def figures(server):
    families = text_string_to_metric_families(server.get("/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


@contextlib.contextmanager
def sent(server, **fields):
    """Sends a request by hand, and closes the connection in the end, whatever is answered."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({**ASK, **fields}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def test_health_is_ready(server):
    answer = server.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_health_tells_of_an_engine_that_failed(server, monkeypatch):
    monkeypatch.setattr(Scripted, "failed", True)
    answer = server.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "failed"})


def test_before_the_model_is_loaded_health_and_requests_say_so(tokenizer):
    api = Api(Options())
    transport = httpx.ASGITransport(api.app)

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/health"), await client.post("/v1/completions", json=ASK)

    health, answer = asyncio.run(ask())
    assert (health.status_code, health.json()["status"]) == (503, "starting")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_model_that_cannot_be_loaded_ends_the_server():
    def load():
        raise UserError("no such checkpoint")

    server = Server(Api(Options()))
    with pytest.raises(UserError, match="no such checkpoint"):
        asyncio.run(server.run_until_stopped(listen("127.0.0.1", 0), load, lambda: None))


def test_a_port_in_use_is_an_error_that_names_the_option():
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_metrics_count_requests_and_tokens(start):
    with start() as server:
        server.post("/v1/completions", {**ASK, "n": 2})
        server.post("/v1/completions", {"model": "tiny"})
        server.get("/whatever")
        found = figures(server)
    assert found["axlearn_requests_total", "/v1/completions", "200"] == 1
    assert found["axlearn_requests_total", "/v1/completions", "400"] == 1
    assert found["axlearn_requests_total", "404", "other"] == 1
    assert found["axlearn_prompt_tokens_total",] == 2
    assert found["axlearn_generated_tokens_total",] == 14
    assert found["axlearn_time_to_first_token_seconds_count",] == 2
    assert found["axlearn_time_per_token_seconds_count",] == 12
    assert {"axlearn_waiting", "axlearn_cache_used_ratio"} <= {name[0] for name in found}


def test_a_full_queue_is_answered_with_429(start):
    with start(text=LONG, pause=0.02, slots=1, queue=1) as server, sent(server), sent(server):
        assert soon(lambda: server.stats().waiting == 1)
        with pytest.raises(openai.RateLimitError, match="too many requests wait") as caught:
            server.client().completions.create(**ASK, stream=True)
        assert caught.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_ends_with_an_error(start, stream):
    with start(pause=0.02) as server:
        server.script.text = LONG
        answer = server.post("/v1/completions", {**ASK, "timeout": 0.3, "stream": stream})
        assert soon(lambda: server.stats().running == 0)
    if stream:  # it began well
        assert answer.status_code == 200
        error = json.loads(answer.text.rstrip().rpartition("data: ")[2])["error"]
    else:
        assert answer.status_code == 504
        error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("timeout_error", "deadline_exceeded")


def test_the_server_s_timeout_is_the_longest(start):
    with start(pause=0.02, options=Options(timeout=0.2)) as server:
        server.script.text = LONG
        assert server.post("/v1/completions", {**ASK, "timeout": 60}).status_code == 504


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(start, stream, caplog):
    caplog.set_level(logging.INFO, "axlearn_inference.access")
    with start(pause=0.02, slots=1) as server:
        server.script.text = LONG
        with sent(server, stream=stream) as connection:
            assert soon(lambda: server.stats().running == 1)
            if stream:
                assert connection.recv(1000)
        assert soon(lambda: server.stats().running == 0)
        assert soon(lambda: server.api.active == 0)
        server.script.text = "next"
        assert server.post("/v1/completions", ASK).json()["choices"][0]["text"] == "next"
    statuses = [json.loads(record.message)["status"] for record in caplog.records]
    assert statuses == [499, 200]


def test_a_client_that_leaves_before_its_request_is_whole_is_no_error(start, caplog):
    caplog.set_level(logging.INFO)
    with start() as server:
        host, port = server.url.removeprefix("http://").split(":")
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n".encode())
            assert soon(lambda: server.api.active == 1)
        assert soon(lambda: server.api.active == 0)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
    (line,) = (each.message for each in caplog.records if each.name == "axlearn_inference.access")
    assert json.loads(line)["status"] == 499


def test_a_key_is_asked_for_everywhere_but_at_the_door(start):
    with start(options=Options(api_key="secret")) as server:
        for path in ("/v1/models", "/metrics"):
            assert server.get(path).status_code == 401
        for path in ("/", "/health"):
            assert server.get(path).status_code == 200
        with pytest.raises(openai.AuthenticationError, match="Authorization: Bearer KEY"):
            server.client("wrong").models.list()
        assert server.client("secret").models.list().data[0].id == "tiny"


def test_a_body_that_is_too_large_is_refused(start):
    with start(options=Options(max_body=1000)) as server:
        answer = server.post("/v1/completions", {**ASK, "prompt": "a" * 2000})
    assert answer.status_code == 413
    assert "larger than 1000 bytes" in answer.json()["error"]["message"]


def test_pages_elsewhere_cannot_use_the_server(start):
    with start(options=Options(hosts=("127.0.0.1", "localhost"))) as server:
        rebound = server.get("/v1/models", headers={"Host": "evil.example:8000"})
        assert rebound.status_code == 421
        simple = server.post(
            "/v1/completions", content="{}", headers={"Content-Type": "text/plain"}
        )
        assert simple.status_code == 400
        headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        with httpx.Client() as client:
            asked = client.options(f"{server.url}/v1/completions", headers=headers)
        assert "access-control-allow-origin" not in asked.headers


def test_pages_that_are_named_may_use_the_server(start):
    with start(options=Options(origins=("http://friend.example",))) as server:
        answer = server.get("/v1/models", headers={"Origin": "http://friend.example"})
    assert answer.headers["access-control-allow-origin"] == "http://friend.example"


def test_each_request_is_a_line_of_log(server, caplog):
    caplog.set_level(logging.INFO, "axlearn_inference.access")
    server.post("/v1/completions", {**ASK, "prompt": "secret"})
    assert soon(lambda: caplog.records)
    (line,) = (json.loads(record.message) for record in caplog.records)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/completions", 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 7)
    assert "secret" not in str(line)


def test_an_error_nobody_expected_tells_the_client_nothing(start, tokenizer):
    with start() as server:
        server.script.text = None  # which cannot be encoded
        answer = server.post("/v1/completions", ASK)
    assert answer.status_code == 500
    assert "NoneType" not in answer.text


def test_draining_finishes_what_runs_and_refuses_what_is_new(start):
    with start(pause=0.02) as server, server.client() as client:
        server.script.text = "y" * 40
        stream = client.completions.create(**ASK, stream=True)
        server.loop.call_soon_threadsafe(server.server.stop)
        assert soon(lambda: server.api.draining)
        assert server.get("/health").json() == {"status": "stopping"}
        assert server.post("/v1/completions", ASK).status_code == 503
        assert "".join(chunk.choices[0].text for chunk in stream) == "y" * 40


def test_draining_waits_no_longer_than_the_grace(start):
    with start(pause=0.02, options=Options(grace=0.1)) as server:
        server.script.text = LONG
        with server.client() as client, contextlib.suppress(openai.APIError, httpx.HTTPError):
            for _ in client.completions.create(**ASK, stream=True):
                server.loop.call_soon_threadsafe(server.server.stop)
    assert server.stats().running == 0


def test_a_hundred_requests_of_which_many_are_given_up_leave_nothing(start):
    with start(pause=0.001, slots=4, queue=200) as server:
        server.script.text = "z" * 30

        async def ask(client, number):
            body = {**ASK, "stream": number % 2 == 0, "n": 1 + number % 3}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01 * (number % 7) or None):
                    await client.post(f"{server.url}/v1/completions", json=body)

        async def all_of_them():
            limits = httpx.Limits(max_connections=20)
            async with httpx.AsyncClient(limits=limits, timeout=60, verify=False) as client:
                await asyncio.gather(*(ask(client, number) for number in range(100)))

        asyncio.run(all_of_them())
        assert soon(lambda: server.api.active == 0)
        assert (server.stats().running, server.stats().waiting) == (0, 0)


def test_served_names_do_not_depend_on_the_template(tokenizer):
    assert Served("a", None, tokenizer, 8).chat is None
    assert url_of(listen("127.0.0.1", 0)).startswith("http://127.0.0.1:")
