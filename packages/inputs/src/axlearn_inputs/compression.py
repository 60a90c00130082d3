"""What a general-purpose compressor makes of a text: a bar for a language model to beat."""

from __future__ import annotations

import lzma
import math
from collections.abc import Mapping

# xz needs a second per megabyte; beyond this the answer is not worth the wait.
_LIMIT_CHARACTERS = 16 << 20


def xz_nats_per_character(splits: Mapping[str, str]) -> dict[str, float]:
    """Returns nats per character of `xz -9` on each split; of two splits also on both together.

    And on the second given the first, which is the fair bar for a model that was trained on the
    first: by how much the file grows when the held-out text is appended. Nothing is computed for
    long texts.
    """
    if sum(map(len, splits.values())) > _LIMIT_CHARACTERS:
        return {}
    nats = {name: _nats(text) for name, text in splits.items()}
    result = {name: nats[name] / len(text) for name, text in splits.items()}
    if len(splits) == 2:
        known, held_out = splits
        everything = splits[known] + splits[held_out]
        nats_of_everything = _nats(everything)
        result["all"] = nats_of_everything / len(everything)
        growth = nats_of_everything - nats[known]
        result[f"{held_out} given {known}"] = growth / len(splits[held_out])
    return result


def _nats(text: str) -> float:
    return len(lzma.compress(text.encode(), preset=9)) * 8 * math.log(2)
