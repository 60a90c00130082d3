"""`/v1/completions`: a text goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from axlearn_inference.server.answers import Event
from axlearn_inference.server.fields import Fields
from axlearn_inference.server.prompts import (
    constrained,
    read_common,
    read_top_logprobs,
    requests,
    response_schema,
)
from axlearn_inference.server.serving import Served
from axlearn_inference.server.vocabulary import finite

Json = dict[str, Any]

_MOST_PROMPTS = 64
_MAX_TOKENS = 16  # OpenAI's default


class Completions:
    """One request, and its answers in OpenAI's shape.

    Raises:
        ApiError: for a field that does not fit.
    """

    id_prefix = "cmpl"
    object = chunk_object = "text_completion"

    def __init__(self, body: Fields, served: Served):
        self._served = served
        self.common = common = read_common(body, served)
        echo = body.flag("echo")
        top_logprobs = read_top_logprobs(body, "logprobs")
        schema = response_schema(body)
        self._prompts = _prompts(body, served)
        if echo and top_logprobs is not None:
            body.refuse("echo", "cannot be combined with logprobs: a prompt has none here")
        body.only("best_of", common.n, instead="it must be n; compare the answers yourself")
        body.only("suffix", "", instead="this model writes what follows, not what is in between")
        body.end()
        self.requests = requests(
            self._prompts,
            common if common.max_tokens else common.with_max_tokens(_MAX_TOKENS),
            served,
            param="prompt",
            top_logprobs=top_logprobs,
            constraint=constrained(schema, served, "response_format"),
        )
        texts = [served.tokenizer.decode(prompt) if echo else "" for prompt in self._prompts]
        self._before = [text for text in texts for _ in range(common.n)]
        self._offsets = defaultdict(int, enumerate(map(len, self._before)))

    def opening(self, answer: int) -> Iterator[Json]:
        """Yields what a stream begins with."""
        if self._before[answer]:
            yield self._choice(answer, self._before[answer], None, None)

    def deltas(self, event: Event) -> Iterator[Json]:
        """Yields what a stream says of an event."""
        logprobs = self._logprobs([event])
        if event.token.text or event.token.finish or logprobs:
            yield self._choice(event.answer, event.token.text, logprobs, event.token.finish)

    def whole(self, answer: int, events: Sequence[Event]) -> Json:
        """Returns a whole answer."""
        text = self._before[answer] + "".join(event.token.text for event in events)
        return self._choice(answer, text, self._logprobs(events), events[-1].token.finish)

    def _choice(self, answer: int, text: str, logprobs: Json | None, finish: str | None) -> Json:
        return {"index": answer, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, events: Sequence[Event]) -> Json | None:
        if self.requests[0].top_logprobs is None:
            return None
        text = self._served.vocabulary.text
        found: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for event in events:
            if not event.in_text:
                continue
            token = event.token
            found["tokens"].append(text(token.id))
            found["token_logprobs"].append(finite(token.logprob))
            found["top_logprobs"].append({text(i): finite(value) for i, value in token.top})
            found["text_offset"].append(self._offsets[event.answer])
            self._offsets[event.answer] += self._served.vocabulary.characters(token.id)
        return found


def _prompts(body: Fields, served: Served) -> list[list[int]]:
    value = body.raw("prompt")
    if value is None:
        body.refuse("prompt", "is missing")
    several = isinstance(value, list) and not all(isinstance(each, int) for each in value)
    found = value if several else [value]
    if len(found) > _MOST_PROMPTS:
        body.refuse("prompt", f"has {len(found)} texts; at most {_MOST_PROMPTS} are taken")
    return [_ids(each, body, served) for each in found]


def _ids(prompt: object, body: Fields, served: Served) -> list[int]:
    tokenizer = served.tokenizer
    if isinstance(prompt, str):
        start = [tokenizer.bos_id] if tokenizer.bos_id >= 0 else []
        ids = tokenizer.encode(prompt)
        return [*start, *np.asarray(ids).tolist()]
    if isinstance(prompt, list) and all(type(each) is int for each in prompt):
        if all(0 <= each < tokenizer.vocab_size for each in prompt):
            return prompt
        body.refuse("prompt", f"holds ids that are not in [0, {tokenizer.vocab_size})")
    body.refuse("prompt", "must be a string, a list of ids, or a list of either")
