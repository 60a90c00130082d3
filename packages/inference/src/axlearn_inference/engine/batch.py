"""What goes into one call of the programs, and what comes out, of each sequence."""

from __future__ import annotations

from collections.abc import Sequence as Rows

import numpy as np
from numpy.typing import NDArray

from axlearn_inference.engine.programs import END_IDS, DrawOptions, Goal, StepInputs
from axlearn_inference.engine.scheduler import Work
from axlearn_inference.request import Sampling, Token
from axlearn_inference.sampling import Drawn

GREEDY = Sampling(temperature=0)


def fill_inputs(inputs: StepInputs, works: Rows[Work]) -> None:
    """Writes the ids of each sequence into a row, and where in the cache they belong."""
    width = inputs.table.shape[1]
    for row, (sequence, count, _) in enumerate(works):
        start = sequence.computed
        inputs.ids[row, :count] = sequence.ids[start : start + count]
        inputs.starts[row], inputs.lengths[row] = start, count
        inputs.slots[row] = sequence.slot
        pages = sequence.pages[:width]
        inputs.table[row, : len(pages)] = pages


def draw_inputs(
    works: Rows[Work], rows: int, vocab_size: int
) -> tuple[tuple[Sampling, ...], NDArray[np.int32], DrawOptions]:
    """Returns each row's rules, how many tokens its text has, and what else its rules read."""
    samplings = [work.sequence.request.sampling if work.draws else GREEDY for work in works]
    index = np.zeros(rows, np.int32)
    index[: len(works)] = [work.sequence.text_length for work in works]
    in_prompt = counts = mask = None
    if any(sampling.penalises for sampling in samplings):
        in_prompt = np.zeros((rows, vocab_size), bool)
        counts = np.zeros((rows, vocab_size), np.int32)
        for row, work in enumerate(works):
            prompt = len(work.sequence.request.prompt)
            in_prompt[row, work.sequence.ids[:prompt]] = True
            text = np.asarray(work.sequence.ids[prompt:], np.int32)
            counts[row] = np.bincount(text, minlength=vocab_size)
    if any(work.draws and work.sequence.matcher is not None for work in works):
        mask = np.full((rows, -(-vocab_size // 32)), -1, np.int32)
        for row, work in enumerate(works):
            if work.draws and work.sequence.matcher is not None:
                work.sequence.matcher.fill_mask(mask[row])
    samplings += [GREEDY] * (rows - len(works))
    return tuple(samplings), index, DrawOptions(in_prompt, counts, mask)


def by_rules_alone(works: Rows[Work]) -> bool:
    """Whether the next tokens need nothing of the host: all are texts, without further wishes."""
    return all(
        work.length == 1
        and work.draws
        and work.sequence.matcher is None
        and work.sequence.request.top_logprobs is None
        and not work.sequence.request.sampling.penalises
        for work in works
    )


def goal_of(works: Rows[Work], rows: int, tokens: int, hurry: bool) -> Goal:
    """Returns when to come back; see `Goal`."""
    goal = Goal(
        index=np.zeros(rows, np.int32),
        left=np.zeros(rows, np.int32),
        end_ids=np.full((rows, END_IDS), -1, np.int32),
        tokens=np.int32(tokens),
        hurry=np.bool_(hurry),
    )
    for row, (sequence, _, _) in enumerate(works):
        goal.index[row] = sequence.text_length
        goal.left[row] = sequence.limit - len(sequence.ids)
        ends = sequence.request.end_ids[:END_IDS]
        goal.end_ids[row, : len(ends)] = ends
    return goal


def token_of(token: int, told: Drawn | None, row: int, top_logprobs: int | None) -> Token:
    """Returns a drawn id, and of what is told of it as much as its request asks for."""
    if told is None or top_logprobs is None:
        return Token(token)
    pairs = zip(told.top_tokens[row].tolist(), told.top_logprobs[row].tolist(), strict=True)
    return Token(token, float(told.logprob[row]), tuple(pairs)[:top_logprobs])
