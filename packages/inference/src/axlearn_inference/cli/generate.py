"""`axl generate`: what a trained model has to say."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from axlearn_core.cli.experiment import (
    chosen_checkpoint,
    overrides_argument,
    run_argument,
    step_option,
)
from axlearn_core.cli.machine import start
from axlearn_core.cli.text import table
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry
from axlearn_inference.request import Request, Sampling, Token

if TYPE_CHECKING:
    from axlearn_inference.decoding import Hypothesis
    from axlearn_inference.model import LanguageModel
    from axlearn_inference.request import Constraint
    from axlearn_inference.speculative import SpeculativeDecoder

_DRAWN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop")
_CONSTRAINTS = ("regex", "json_schema", "grammar")
_MAX_TOKENS = 200
_WIDEST = 20  # likeliest tokens that are told, at most; see `sampling.TOP`


def _sampling_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say how tokens are drawn, named as in `Sampling`."""
    for option in reversed(
        [
            click.option(
                "--temperature",
                type=click.FloatRange(min=0),
                default=0.8,
                show_default=True,
                help="0 always takes the most likely token.",
            ),
            click.option("--top-k", type=click.IntRange(min=1), help="Draw from so many tokens."),
            click.option(
                "--top-p", type=float, default=1.0, help="Draw from tokens that sum to it."
            ),
            click.option(
                "--min-p", type=float, default=0.0, help="At least so likely as the likeliest."
            ),
            click.option(
                "--repetition-penalty", type=float, default=1.0, help="Above 1 repeats less."
            ),
            click.option("--seed", type=int, default=0, show_default=True),
        ]
    ):
        command = option(command)
    return command


@click.command()
@run_argument
@click.argument("prompt", required=False)
@overrides_argument
@click.option("--ids", help="Token ids to continue instead, such as 3,1,4; prints ids.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="  [default: 200, or what fits]")
@_sampling_options
@click.option("--n", type=click.IntRange(min=1), default=1, help="So many texts.  [default: 1]")
@click.option("--stop", multiple=True, help="A text before which to stop; may be repeated.")
@click.option(
    "--beam", type=click.IntRange(min=1), help="Search for likely texts with so many beams."
)
@click.option(
    "--length-penalty", type=float, default=1.0, help="Of beams; above 0 prefers longer texts."
)
@click.option(
    "--logprobs",
    type=click.IntRange(0, _WIDEST),
    help="Tell log-probabilities, and those of so many of the likeliest tokens.",
)
@click.option(
    "--draft",
    metavar="DIR|lookup",
    help="Propose tokens with the model of another run, or what followed the last ones before.",
)
@click.option("--draft-tokens", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--regex", help="Write only what it matches.")
@click.option(
    "--json-schema", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file."
)
@click.option(
    "--grammar",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file, in Lark's EBNF.",
)
@step_option
@click.option("--dtype", help="Compute in it, such as bfloat16.  [default: the run's]")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each text.")
@click.pass_context
def generate(
    context: click.Context,
    /,
    directory: Path,
    prompt: str | None,
    overrides: tuple[str, ...],
    ids: str | None,
    step: int | None,
    dtype: str | None,
    beam: int | None,
    draft: str | None,
    draft_tokens: int,
    **options: Any,
) -> None:
    """Let the model of the run in DIR continue PROMPT.

    PROMPT is a text, or - to read it from standard input; without one a document begins. An
    encoder-decoder reads it, and writes a text of its own. Each PATH=VALUE changes the run's
    config, such as model.**.cache=inference/paged.
    """
    if ids is not None and prompt is not None:
        overrides = (prompt, *overrides)
        prompt = None
    if beam is not None:
        _check_beams(context, beam, options["n"])
        _check_without("--beam", ("draft", *_CONSTRAINTS), {**options, "draft": draft})
    if prompt == "-":
        prompt = sys.stdin.read()
    checkpoint = chosen_checkpoint(directory, step)
    start(get_registry())
    from axlearn_inference.loading import load_checkpoint

    model = load_checkpoint(checkpoint, overrides=overrides, dtype=dtype)
    prompt_ids = _encoded(prompt or "", model) if ids is None else _parsed(ids)
    options["max_tokens"] = options["max_tokens"] or _fitting(model, prompt_ids)
    before = None if ids is not None else "" if model.is_encoder_decoder else prompt or ""
    clock = _Clock()
    speculative = None if draft is None else _with_draft(model, draft, draft_tokens, dtype)
    if beam is None:
        requests = _requests(model, prompt_ids, options)
        results = _decode(model, requests, speculative, before, clock, options)
    else:
        results = _search(model, prompt_ids, beam, before, clock, options)
    if options["as_json"]:
        for result in results:
            click.echo(json.dumps(result))
    click.echo(clock.line(), err=True)
    if speculative is not None:
        found = speculative.statistics
        click.echo(
            f"the draft was right {found.acceptance:.0%} of the time: "
            f"{found.tokens_per_step:.2f} tokens a step",
            err=True,
        )


def _with_draft(
    model: LanguageModel, draft: str, draft_tokens: int, dtype: str | None
) -> SpeculativeDecoder:
    from axlearn_inference.loading import load_checkpoint
    from axlearn_inference.speculative import LookupDraft, ModelDraft, SpeculativeDecoder

    if draft == "lookup":
        return SpeculativeDecoder(model, LookupDraft(model.vocab_size, draft_tokens))
    small = load_checkpoint(chosen_checkpoint(Path(draft), None), dtype=dtype)
    return SpeculativeDecoder(model, ModelDraft(small, draft_tokens))


def _constraint(model: LanguageModel, options: dict[str, Any]) -> Constraint | None:
    given = [name for name in _CONSTRAINTS if options[name] is not None]
    if not given:
        return None
    if len(given) > 1:
        raise UserError(f"give one of --{' and --'.join(given).replace('_', '-')}")
    if model.tokenizer is None:
        raise UserError(f"{model.name} has no tokenizer, and so no text to constrain")
    from axlearn_inference.constraints import Constraints

    value = options[given[0]]
    text = value.read_text(encoding="utf-8") if isinstance(value, Path) else value
    constraint: Constraint = getattr(Constraints(model.tokenizer), given[0])(text)
    return constraint


def _requests(
    model: LanguageModel, prompt: Sequence[int], options: dict[str, Any]
) -> list[Request]:
    """Returns a request for each text, with seeds that follow each other."""
    names = [name for name in _DRAWN if name not in ("seed", "stop")]
    rule = {name: options[name] for name in names}
    constraint = _constraint(model, options)
    return [
        Request(
            tuple(prompt),
            max_tokens=options["max_tokens"],
            sampling=Sampling(**rule, seed=options["seed"] + index),
            stop=options["stop"],
            end_ids=_end_ids(model),
            top_logprobs=options["logprobs"],
            constraint=constraint,
        )
        for index in range(options["n"])
    ]


def _decode(
    model: LanguageModel,
    requests: Sequence[Request],
    speculative: SpeculativeDecoder | None,
    before: str | None,
    clock: _Clock,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """Decodes, prints what people read, and returns what machines read.

    A single text is printed as it comes, several one after the other when all are there.
    """
    from axlearn_inference.decoding import Completion
    from axlearn_inference.decoding import generate as decode

    quiet = options["as_json"]
    streams = len(requests) == 1 and not quiet
    if streams:
        click.echo(before or "", nl=False)
    tokens: list[list[Token]] = [[] for _ in requests]
    for index, token in decode(model, requests, speculative):
        clock.count()
        tokens[index].append(token)
        if streams:
            click.echo(token.text if before is not None else f"{token.id} ", nl=False)
    if streams:
        click.echo()
    completions = [Completion(tuple(each)) for each in tokens]
    if not quiet and not streams:
        for found in completions:
            _print_one(found.text, found.ids, before)
    if not quiet and options["logprobs"] is not None:
        for found in completions:
            click.echo(_logprob_table(found.tokens, model))
    return [_as_json(found.text, found.ids, found.finish, found.tokens) for found in completions]


def _search(
    model: LanguageModel,
    prompt: Sequence[int],
    beams: int,
    before: str | None,
    clock: _Clock,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """As `_decode`, by beam search."""
    from axlearn_inference.decoding import beam_search

    found: list[Hypothesis] = beam_search(
        model,
        prompt,
        beams=beams,
        max_tokens=options["max_tokens"],
        end_ids=_end_ids(model),
        length_penalty=options["length_penalty"],
    )[: options["n"]]
    clock.count(max(len(each.ids) for each in found))
    results = []
    for each in found:
        tokens = [Token(i, logprob) for i, logprob in zip(each.ids, each.logprobs, strict=True)]
        if not options["as_json"]:
            _print_one(each.text, each.ids, before)
            if options["logprobs"] is not None:
                click.echo(_logprob_table(tokens, model))
        results.append({**_as_json(each.text, each.ids, each.finish, tokens), "score": each.score})
    return results


def _check_beams(context: click.Context, beams: int, texts: int) -> None:
    given = [
        f"--{name.replace('_', '-')}"
        for name in _DRAWN
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UserError(f"--beam draws nothing and stops at end ids alone; leave {given[0]} out")
    if texts > beams:
        raise UserError(f"--n {texts} texts need as many beams; got --beam {beams}")


def _check_without(option: str, others: Iterable[str], options: dict[str, Any]) -> None:
    for name in others:
        if options[name] is not None:
            raise UserError(f"{option} goes without --{name.replace('_', '-')}")


def _print_one(text: str, ids: Iterable[int], before: str | None) -> None:
    click.echo(" ".join(map(str, ids)) if before is None else before + text)


def _as_json(
    text: str, ids: Iterable[int], finish: str | None, tokens: Sequence[Token]
) -> dict[str, Any]:
    result: dict[str, Any] = {"text": text, "ids": list(ids), "finish": finish}
    if tokens and tokens[0].logprob is not None:
        result["logprobs"] = [
            {"id": token.id, "logprob": token.logprob, "top": [list(pair) for pair in token.top]}
            for token in tokens
        ]
    return result


def _logprob_table(tokens: Sequence[Token], model: LanguageModel) -> str:
    def shown(token: int) -> str:
        return str(token) if model.tokenizer is None else repr(model.tokenizer.decode([token]))

    rows = [
        (shown(t.id), f"{t.logprob:.4f}", "  ".join(f"{shown(i)} {p:.4f}" for i, p in t.top))
        for t in tokens
    ]
    return table(("token", "logprob", "likeliest"), rows)


def _parsed(ids: str) -> list[int]:
    try:
        return [int(word) for word in ids.replace(",", " ").split()]
    except ValueError:
        raise UserError(f"--ids must be numbers, such as 3,1,4; got {ids!r}") from None


def _encoded(prompt: str, model: LanguageModel) -> list[int]:
    """A document begins with bos, where the tokenizer has such an id; encoders see its end too."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise UserError(
            f"{model.name} has no tokenizer; give token ids instead of text: --ids 3,1,4"
        )
    ids = [tokenizer.bos_id] if tokenizer.bos_id >= 0 else []
    ids += tokenizer.encode(prompt).tolist()
    if model.is_encoder_decoder and tokenizer.eos_id >= 0:
        ids.append(tokenizer.eos_id)
    if not ids:
        raise UserError("this tokenizer marks no start of a document: give a prompt")
    return ids


def _fitting(model: LanguageModel, prompt: Sequence[int]) -> int:
    room = model.room(prompt)
    return _MAX_TOKENS if room is None else max(1, min(_MAX_TOKENS, room))


def _end_ids(model: LanguageModel) -> tuple[int, ...]:
    ends = () if model.tokenizer is None else model.tokenizer.end_ids
    return tuple(token for token in ends if token >= 0)  # -1 is none


class _Clock:
    """How fast tokens come, compiling among it."""

    def __init__(self) -> None:
        self._began, self._first = time.perf_counter(), 0.0
        self._tokens, self._at_once = 0, 0

    def count(self, tokens: int = 1) -> None:
        """Notes that tokens came."""
        if not self._tokens:
            self._first, self._at_once = time.perf_counter(), tokens
        self._tokens += tokens

    def line(self) -> str:
        """Returns what to say of it. The rate is that of the tokens after the first."""
        waited, rest = self._first - self._began, self._tokens - self._at_once
        if not rest:
            return f"{self._tokens} tokens after {waited:.2f} s"
        rate = rest / (time.perf_counter() - self._first)
        return f"first of {self._tokens} tokens after {waited:.2f} s, then {rate:.1f} tokens/s"
