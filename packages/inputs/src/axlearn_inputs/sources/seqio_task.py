"""Documents of a seqio task or mixture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from axlearn_core.config import REQUIRED
from axlearn_inputs.sources.source import DocumentSource, Found, Position
from axlearn_inputs.tokenizers import ByteTokenizer


class SeqioTask(DocumentSource):
    """The text of a task or mixture, in its order.

    Reading imports tensorflow. A position is `{"record": documents so far}`; going on from it runs
    the task up to there, since seqio has no other way.
    """

    class Config(DocumentSource.Config):
        task: str = REQUIRED  # "name", or "module:name" to import the module first

    def read(self, split: str, after: Position | None = None) -> Iterator[Found]:
        from axlearn_inputs.tasks import read_task  # 10 s

        done = (after or {}).get("record", 0)
        as_bytes = ByteTokenizer.default_config().instantiate()
        documents = itertools.islice(read_task(self.config.task, split, as_bytes), done, None)
        for number, document in enumerate(documents, start=done + 1):
            yield Found(document.text, {"record": number})

    def describe(self, split: str) -> dict[str, Any]:
        return {"task": self.config.task, "split": split}
