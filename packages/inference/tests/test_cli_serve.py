"""`axl serve`, from a trained run to an answer, and its end."""

import os
import re
import signal
import subprocess
import sys

import httpx
import openai
import pytest
from click.testing import CliRunner

from axlearn_core.cli.main import main
from axlearn_core.errors import UserError
from axlearn_inference.cli.serve import serve
from axlearn_inference.engine import Engine

AXL = [sys.executable, "-m", "axlearn_core.cli.main"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["axlearn_core.testing.tiny:experiment", "--dir", str(directory)]
    assert main(["train", *words, "writers=[]"]) == 0
    return directory


@pytest.fixture(scope="module")
def served(run):
    """The process, and the address that it prints when it is ready."""
    few_shapes = ["--slots", "1", "--max-length", "16", "engine.prefill_tokens=16"]
    process = subprocess.Popen(
        [*AXL, "serve", str(run), "--port", "0", "--name", "abc", *few_shapes],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "AXLEARN_API_KEY": "secret"},
    )
    said = ""
    while "-d '" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    yield process, said
    process.kill()
    process.wait()


def test_a_trained_model_answers_and_sigterm_ends_it_well(served):
    process, said = served
    url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
    assert f"open {url}/\n" in said
    assert f'curl {url}/v1/completions -H "Authorization: Bearer $AXLEARN_API_KEY"' in said
    client = openai.OpenAI(
        base_url=f"{url}/v1", api_key="secret", http_client=httpx.Client(verify=False)
    )
    done = client.completions.create(model="abc", prompt="abc", max_tokens=5, temperature=0)
    assert done.choices[0].text == "defgh"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--api-key-file", "no-such-file"], "--api-key-file no-such-file cannot be read"),
        (["--api-key-file", os.devnull], "is empty; write a key into it"),
        (["--chat-template", "no-such-file"], "--chat-template no-such-file cannot be read"),
        (["--host", "203.0.113.1"], "another --port"),
        (["--step", "3"], "3"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_loaded(run, words, says):
    found = CliRunner().invoke(serve, [str(run), *words])
    assert isinstance(found.exception, UserError)
    assert says in str(found.exception)


def test_a_broken_template_is_told_before_anything_is_compiled(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "compile_ahead", lambda self: pytest.fail("it compiles"))
    (tmp_path / "bad.jinja").write_text("{{ messages")
    words = [str(run), "--port", "0", "--chat-template", str(tmp_path / "bad.jinja")]
    found = CliRunner().invoke(serve, words)
    assert isinstance(found.exception, UserError)
    assert "the chat template is no jinja template" in str(found.exception)


def test_a_missing_package_is_named_with_the_command(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("axlearn_inference.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette.responses", None)
    found = CliRunner().invoke(serve, [str(run)])
    assert 'pip install "axlearn-inference[serve]"' in str(found.exception)
