"""Fields that both kinds of completions share, and requests made of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from axlearn_core.errors import UserError
from axlearn_inference.request import Constraint, Request, Sampling
from axlearn_inference.sampling import TOP
from axlearn_inference.server.errors import ApiError
from axlearn_inference.server.fields import Fields
from axlearn_inference.server.serving import Served

_MOST_ANSWERS = 64
_MOST_STOPS = 16


@dataclass(frozen=True)
class Common:
    """What does not depend on the prompt.

    Attributes:
        sampling: of the first answer; see `requests`.
        n: answers for each prompt.
        max_tokens: of each; None is as many as fit.
        stream: whether the client reads along.
        usage: whether a stream ends with the counts of tokens.
        timeout: in seconds; None is the server's.
        adapter: of LoRA; None is the model as it is.
    """

    sampling: Sampling
    n: int
    max_tokens: int | None
    stop: tuple[str, ...]
    stream: bool
    usage: bool
    timeout: float | None
    adapter: str | None

    def with_max_tokens(self, most: int) -> Common:
        """Returns the same with another limit."""
        return replace(self, max_tokens=most)


def read_common(body: Fields, served: Served) -> Common:
    """Takes the fields that both kinds of completions share."""
    stream = body.flag("stream")
    options = body.inner("stream_options")
    if options is not None and not stream:
        body.refuse("stream_options", "needs stream=true")
    usage = options is not None and options.flag("include_usage")
    if options is not None:
        options.ignore("include_obfuscation")
        options.end()
    body.only("logit_bias", {}, instead="say what you want in the prompt, or use response_format")
    body.ignore("user", "safety_identifier", "prompt_cache_key", "metadata", "store")
    return Common(
        sampling=_sampling(body),
        n=body.integer("n", 1, low=1, high=_MOST_ANSWERS),
        max_tokens=body.integer("max_tokens", None, low=1),
        stop=body.texts("stop", most=_MOST_STOPS),
        stream=stream,
        usage=usage,
        timeout=body.number("timeout", None, low=0.001),
        adapter=_adapter(body, served),
    )


def _sampling(body: Fields) -> Sampling:
    seed = body.integer("seed", None)
    return Sampling(
        temperature=body.number("temperature", 1.0, low=0, high=100),
        top_k=body.integer("top_k", None, low=1),
        top_p=body.number("top_p", 1.0, low=1e-6, high=1),
        min_p=body.number("min_p", 0.0, low=0, high=1),
        repetition_penalty=body.number("repetition_penalty", 1.0, low=0.01, high=100),
        presence_penalty=body.number("presence_penalty", 0.0, low=-100, high=100),
        frequency_penalty=body.number("frequency_penalty", 0.0, low=-100, high=100),
        seed=random.getrandbits(32) if seed is None else seed % 2**32,
    )


def _adapter(body: Fields, served: Served) -> str | None:
    name = body.text("model", None)
    known = served.names
    if name is None:
        body.refuse("model", f"is missing; this server has {', '.join(known)}")
    if name not in known:
        raise ApiError(
            f"there is no model {name!r}; this server has {', '.join(known)}",
            status=404,
            param="model",
            code="model_not_found",
        )
    return None if name == served.name else name


def requests(
    prompts: Sequence[Sequence[int]],
    common: Common,
    served: Served,
    *,
    param: str,
    top_logprobs: int | None = None,
    constraint: Constraint | None = None,
) -> list[Request]:
    """Returns `n` requests for each prompt. Those of one prompt have seeds that count up.

    Raises:
        ApiError: if a prompt is empty or too long; it names `param`.
    """
    found = []
    for prompt in prompts:
        room = served.max_length - len(prompt)
        wanted = common.max_tokens or room
        if not prompt:
            raise ApiError(f"{param} has no tokens: write something", param=param)
        if room < 1 or wanted > room:
            asked = f", and max_tokens is {common.max_tokens}" if common.max_tokens else ""
            raise ApiError(
                f"{param} has {len(prompt)} tokens{asked}, but {served.name} holds "
                f"{served.max_length} of prompt and answer together: shorten one of them",
                param=param,
                code="context_length_exceeded",
            )
        for number in range(common.n):
            seed = (common.sampling.seed + number) % 2**32
            request = Request(
                prompt=tuple(prompt),
                max_tokens=wanted,
                sampling=replace(common.sampling, seed=seed),
                stop=common.stop,
                end_ids=tuple(end for end in served.tokenizer.end_ids if end >= 0),
                top_logprobs=top_logprobs,
                adapter=common.adapter,
                constraint=constraint,
            )
            found.append(request)
    return found


def constrained(schema: str | None, served: Served, param: str) -> Constraint | None:
    """Returns a constraint for JSON that a schema describes; None without a schema.

    Raises:
        ApiError: if the schema is not understood, or nothing here can follow it.
    """
    if schema is None:
        return None
    if served.constraints is None:
        raise ApiError(
            f"{param} needs constrained decoding, which this server does not have: leave it out, "
            'or start the server where `pip install "axlearn-inference[constraints]"` was done',
            param=param,
        )
    try:
        return served.constraints.json_schema(schema)
    except UserError as error:
        raise ApiError(f"{param}: {error}", param=param) from error


def response_schema(body: Fields) -> str | None:
    """Takes `response_format`; returns the JSON schema of the answer, None for any text."""
    format = body.inner("response_format")
    if format is None:
        return None
    kind = format.text("type", None, among=("text", "json_object", "json_schema"))
    schema: object = {"type": "object"}
    if kind == "json_schema":
        wanted = format.inner("json_schema")
        if wanted is None:
            format.refuse("json_schema", "is missing")
        wanted.ignore("name", "description", "strict")  # it is always followed
        schema = wanted.raw("schema")
        if not isinstance(schema, dict | bool):
            wanted.refuse("schema", "must be a JSON schema")
        wanted.end()
    format.end()
    return None if kind in (None, "text") else json.dumps(schema)


def read_top_logprobs(body: Fields, field: str) -> int | None:
    """Takes a number of likeliest tokens to tell."""
    return body.integer(field, None, low=0, high=TOP)
