"""`axl serve`: a trained model over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from axlearn_core.checkpoint import CheckpointInfo
from axlearn_core.cli.experiment import (
    chosen_checkpoint,
    overrides_argument,
    run_argument,
    step_option,
)
from axlearn_core.cli.machine import start
from axlearn_core.config import apply_overrides
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry

if TYPE_CHECKING:
    from axlearn_core.training.tokenizer import Tokenizer
    from axlearn_inference.engine import Adapters
    from axlearn_inference.model import LanguageModel
    from axlearn_inference.server import Constraints, Options, Served

KEY_VARIABLE = "AXLEARN_API_KEY"
_ENGINE = "engine."
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@run_argument
@overrides_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--name", help="By which clients ask for the model.  [default: the run's]")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=DIR",
    help="Serve the LoRA adapter of the run in DIR as a model NAME; may be repeated.",
)
@click.option(
    "--adapter-rank",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="The highest of any adapter.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help=f"Ask for the key in this file.  [default: the one in {KEY_VARIABLE}, or none]",
)
@click.option(
    "--chat-template",
    type=click.Path(path_type=Path),
    help="A jinja file that writes messages as a prompt.  [default: the tokenizer's]",
)
@click.option("--slots", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--queue", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--max-length", type=click.IntRange(min=2), default=2048, show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds that a request may take.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to finish what is running when told to stop.",
)
@click.option("--max-body", type=click.IntRange(min=1), default=4 << 20, show_default=True)
@click.option(
    "--cors-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let pages of this origin use the server; may be repeated.",
)
@step_option
@click.option("--dtype", help="Compute in it, such as bfloat16.  [default: the run's]")
def serve(directory: Path, overrides: tuple[str, ...], step: int | None, **given: Any) -> None:
    """Serve the model of the run in DIR over HTTP, as OpenAI's API does, with a page to chat.

    Each PATH=VALUE changes the run's config, such as model.**.cache=inference/paged, or, as
    engine.FIELD=VALUE, the engine's, such as engine.page_size=32.
    """
    start(get_registry())
    try:
        from axlearn_inference.server import Api, Server, listen, log_to_stderr, url_of
    except ImportError as error:
        raise UserError(
            f"axl serve needs {error.name}, which is not installed: "
            'pip install "axlearn-inference[serve]"'
        ) from error
    checkpoint = chosen_checkpoint(directory, step)
    options = _options(**given)
    template = given["chat_template"]
    source = None if template is None else _read(template, "--chat-template")
    listener = listen(given["host"], given["port"])
    if given["host"] not in _LOOPBACK and options.api_key is None:
        click.echo(
            f"warning: whoever reaches {url_of(listener)} may use the model: there is no API key "
            f"(--api-key-file, or {KEY_VARIABLE})",
            err=True,
        )
    server = Server(Api(options))

    def load() -> Served:
        return _load(checkpoint, overrides, source, **given)

    def ready() -> None:
        assert server.api.served is not None
        click.echo(_greeting(server.api.served, url_of(listener), options.api_key is not None))

    click.echo(f"loading and compiling; then {url_of(listener)} answers", err=True)
    log_to_stderr()
    asyncio.run(server.run_until_stopped(listener, load, ready))


def _options(
    *,
    host: str,
    api_key_file: Path | None,
    timeout: float,
    grace: float,
    max_body: int,
    origins: Sequence[str],
    **_: Any,
) -> Options:
    from axlearn_inference.server import Options

    key = os.environ.get(KEY_VARIABLE) or None
    if api_key_file is not None:
        key = _read(api_key_file, "--api-key-file").strip()
        if not key:
            raise UserError(f"{api_key_file} is empty; write a key into it")
    return Options(
        api_key=key,
        timeout=timeout,
        grace=grace,
        max_body=max_body,
        hosts=("127.0.0.1", "localhost", "[::1]") if host in _LOOPBACK else (),
        origins=tuple(origins),
    )


def _load(
    checkpoint: CheckpointInfo,
    overrides: Sequence[str],
    template: str | None,
    *,
    name: str | None,
    adapters: Sequence[str],
    adapter_rank: int,
    slots: int,
    queue: int,
    max_length: int,
    dtype: str | None,
    **_: Any,
) -> Served:
    """Loads the model, and compiles what requests will need."""
    from axlearn_inference.engine import AsyncEngine, Engine
    from axlearn_inference.loading import load_checkpoint
    from axlearn_inference.server import ChatTemplate, Served

    own = [word.removeprefix(_ENGINE) for word in overrides if word.startswith(_ENGINE)]
    others = [word for word in overrides if not word.startswith(_ENGINE)]
    model = load_checkpoint(checkpoint, overrides=others, dtype=dtype)
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise UserError(f"{model.name} has no tokenizer, so there is no text to serve")
    template = template or tokenizer.chat_template
    if template is not None:
        ChatTemplate(template, tokenizer)  # for its errors to come before minutes of compiling
    loaded = _adapters(model, adapters, adapter_rank)
    if loaded is not None and (name := name or model.name) in loaded.names:
        raise UserError(f"{name!r} is the model and an adapter; give one of them another name")
    cfg = Engine.default_config().set(slots=slots, queue_size=queue, max_length=max_length)
    engine: Engine = apply_overrides(cfg, own).instantiate(model=model, adapters=loaded)
    engine.compile_ahead()
    served = Served(
        name=name or model.name,
        serving=AsyncEngine(engine),
        tokenizer=tokenizer,
        max_length=engine.config.max_length,
        chat_template=template,
        constraints=_constraints(tokenizer),
        adapters=tuple if loaded is None else lambda: loaded.names,
    )
    assert served.chat or served.vocabulary  # made now, so that errors come now
    return served


def _adapters(model: LanguageModel, words: Sequence[str], rank: int) -> Adapters | None:
    if not words:
        return None
    from axlearn_inference.engine import Adapters

    loaded = Adapters(model, places=len(words), rank=rank)
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UserError(f"--adapter must be NAME=DIR, got {word!r}")
        try:
            loaded.load_run(name, Path(folder))
        except UserError as error:
            raise UserError(f"--adapter {word}: {error}") from error
    return loaded


def _constraints(tokenizer: Tokenizer) -> Constraints | None:
    """Returns what makes constraints; None, and a remark, where that is not possible."""
    from axlearn_inference.constraints import Constraints

    try:
        return Constraints(tokenizer)
    except (UserError, NotImplementedError) as error:
        click.echo(f"no response_format and no forced tool calls: {error}", err=True)
        return None


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path} cannot be read: {error}") from error


def _greeting(served: Served, url: str, has_key: bool) -> str:
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if has_key else ""
    chats = served.chat is not None
    path = "chat/completions" if chats else "completions"
    asked = '"messages": [{"role": "user", "content": "Hello"}]' if chats else '"prompt": "Once"'
    return (
        f"{', '.join(served.names)} at {url}/v1; Ctrl-C stops\n\n"
        f"  {'to chat' if chats else 'to write'}, open {url}/\n"
        f"  to try it, curl {url}/v1/{path}{key} -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"model": "{served.name}", {asked}}}\'\n'
    )
