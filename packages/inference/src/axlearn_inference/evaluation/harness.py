"""A model of ours as EleutherAI's lm-evaluation-harness asks for one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from axlearn_core.errors import UserError
from axlearn_inference.chat import ChatError, ChatTemplate
from axlearn_inference.evaluation.scoring import Pair, score
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import Request, Sampling

Complete = Callable[[Sequence[Request]], Sequence[str]]
"""Decodes requests together; returns the text of each, without stop strings and end ids."""


class HarnessModel(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """Answers as the harness's own model of `transformers` does with the same weights.

    Names of special tokens in a task's text are these tokens, and texts begin with bos where the
    tokenizer puts it there, as with `transformers`.
    """

    def __init__(
        self, model: LanguageModel, complete: Complete, *, batch_size: int, max_length: int
    ):
        """Args: max_length: of a text, in tokens; of longer ones the end is taken."""
        super().__init__()
        model.check_decoder_only("axl eval --tasks")
        if model.tokenizer is None:
            raise UserError(f"{model.name} has no tokenizer, and tasks are text")
        self._model, self._complete, self._ids = model, complete, model.tokenizer
        self._batch_size, self._max_length = batch_size, max_length

    @property
    def eot_token_id(self) -> int:
        return self._ids.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it: bos, else eos."""
        if self._ids.bos_id >= 0:
            return self._ids.bos_id
        named = self._ids.encode_markup(self._ids.special_tokens.get("bos_token", "")).tolist()
        return int(named[0]) if len(named) == 1 else self._ids.eos_id

    @property
    def tokenizer_name(self) -> str:
        return self._ids.fingerprint()

    @functools.cached_property
    def _chat(self) -> ChatTemplate:
        if self._ids.chat_template is None:
            raise UserError(
                f"{self._model.name} has no chat template: none came with its tokenizer. Leave "
                "--apply-chat-template out"
            )
        return ChatTemplate(self._ids.chat_template, self._ids)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Returns messages as the model was trained to read them.

        Where its template knows no system role, those messages are left out.
        """
        continued = not add_generation_prompt
        try:
            return self._chat.render(chat_history, continued=continued)
        except ChatError:
            others = [message for message in chat_history if message["role"] != "system"]
            return self._chat.render(others, continued=continued)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        ids: list[int] = self._ids.encode_markup(string).tolist()
        bos = self._ids.bos_id
        if bos < 0 or add_special_tokens is False or (ids and ids[0] == bos):
            return ids
        return [bos, *ids]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        windows: list[tuple[int, Pair]] = []
        for number, request in enumerate(requests):
            windows += [
                (number, make_disjoint_window(window))
                for window in get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self._max_length,
                    context_len=1,
                )
            ]
        totals = [0.0] * len(requests)
        scores = self._scores([pair for _, pair in windows])
        for (number, _), found in zip(windows, scores, strict=True):
            totals[number] += found[0]
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        asked = [self._request(*instance.args) for instance in requests]
        order = sorted(range(len(asked)), key=lambda i: -len(asked[i].prompt))
        texts = [""] * len(asked)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            for i, text in zip(batch, self._complete([asked[i] for i in batch]), strict=True):
                texts[i] = text
        return texts

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        return self._scores([(context, continuation) for _, context, continuation in requests])

    def _scores(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        kept = []
        for context, continuation in pairs:
            room = self._max_length + 1 - len(continuation)
            if room < 1:
                raise UserError(
                    f"a continuation has {len(continuation)} tokens, but max_length "
                    f"(={self._max_length}) is the most"
                )
            kept.append((context[-room:], continuation))
        found = score(self._model, kept, batch_size=self._batch_size)
        return [(each.logprob, each.is_greedy) for each in found]

    def _request(self, context: str, options: dict[str, Any]) -> Request:
        wanted: dict[str, Any] = dict(normalize_gen_kwargs(options, 256))
        max_tokens = wanted.pop("max_gen_toks")
        room = self._max_length - max_tokens
        if room < 1:
            raise UserError(
                f"a task generates {max_tokens} tokens, but max_length (={self._max_length}) is "
                "the most, with the prompt"
            )
        stop = handle_stop_sequences(wanted.pop("until", None), eos=None)
        temperature = wanted.pop("temperature", 0.0) if wanted.pop("do_sample", False) else 0.0
        filters = {name: wanted[name] for name in ("top_k", "top_p", "min_p") if name in wanted}
        prompt = self.tok_encode(context)[-room:] or [self.prefix_token_id]
        return Request(
            tuple(prompt),
            max_tokens,
            Sampling(temperature, **filters),
            stop=tuple(text for text in stop if text),
            end_ids=self._ids.end_ids,
        )
