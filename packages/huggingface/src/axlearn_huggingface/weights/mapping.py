"""Weight mappings: data that say how published tensors and our parameters correspond."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from axlearn_huggingface.weights.axes import Axes, parse_axes, piece_names


@dataclass(frozen=True)
class Rule:
    """Some parameters of ours are, piece by piece, some tensors of theirs.

    Both sides give names and axes. Cut at each `+`, they have equally many pieces, which
    correspond in order, each with the same names on both sides::

        Rule(
            {r"attention/qkv/(inner/)*projection/weight": "embed kv (group + 1 + 1) dim"},
            {
                "self_attn.q_proj.weight": "(kv group dim) embed",
                "self_attn.k_proj.weight": "(kv dim) embed",
                "self_attn.v_proj.weight": "(kv dim) embed",
            },
        )

    Our names are regular expressions in which `{layer}` stands for a part of a name that is found
    again in theirs. A `{expert}` in their name that is none in ours is an axis: a tensor of theirs
    for each entry. Sizes follow from the shapes of our parameters.

    Attributes:
        ours: names, relative to the mapping's or `within`'s, and axes.
        theirs: the same.
        optional: whether a model may have none of it. A rule that matches nothing is an error else.
        sizes: of names that do not follow from the shapes of our parameters.

    Raises:
        ValueError: if the two sides do not correspond.
    """

    ours: Mapping[str, str]
    theirs: Mapping[str, str]
    optional: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        captured = [_fields(name) for name in self.ours]
        if any(fields != captured[0] for fields in captured):
            raise ValueError(f"{self}: all names of ours must have the same {{fields}}")
        ours = [piece for axes in self.our_axes for piece in piece_names(axes)]
        theirs = [
            (*self.enumerated(name), *piece)
            for name, axes in zip(self.theirs, self.their_axes, strict=True)
            for piece in piece_names(axes)
        ]
        if [Counter(piece) for piece in ours] != [Counter(piece) for piece in theirs]:
            raise ValueError(
                f"{self}: the pieces of ours, {_text(ours)}, are not those of theirs, "
                f"{_text(theirs)}; in order, each must have the same names"
            )

    @property
    def our_axes(self) -> list[Axes]:
        """Of each of our names."""
        return [parse_axes(text) for text in self.ours.values()]

    @property
    def their_axes(self) -> list[Axes]:
        """Of each of their names."""
        return [parse_axes(text) for text in self.theirs.values()]

    def enumerated(self, their_name: str) -> list[str]:
        """Returns the axes over which a name of theirs stands for several tensors."""
        captured = _fields(next(iter(self.ours)))
        return [name for name in _fields(their_name) if name not in captured]

    def __str__(self) -> str:
        return f"rule {', '.join(self.ours)} = {', '.join(self.theirs)}"


@dataclass(frozen=True)
class WeightMapping:
    """How the tensors of a published model and the parameters of ours correspond.

    Attributes:
        rules: each parameter and each tensor belongs to exactly one.
        prefix: of all their names. Files of a model without its head have them without it.
        ties: theirs that may be there though our model has no such parameter, such as the output
            head of a tied model, and the tensor that each of them must equal.
        ignored: regular expressions over names of theirs that are no parameters.
        groups: stacks of which so many layers are one of theirs. The layers of such a stack have
            two numbers: with groups={"decoder/stack": 2} the seventh is `decoder/stack/3/0`.
    """

    rules: tuple[Rule, ...]
    prefix: str = ""
    ties: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)


def within(ours: str, theirs: str, *rules: Rule) -> tuple[Rule, ...]:
    """Returns the rules with names prefixed: `within("stack/{layer}/", "h.{layer}.", *rules)`."""
    return tuple(
        Rule(
            {ours + name: axes for name, axes in rule.ours.items()},
            {theirs + name: axes for name, axes in rule.theirs.items()},
            optional=rule.optional,
            sizes=rule.sizes,
        )
        for rule in rules
    )


_FIELD = re.compile(r"\{([a-z_]\w*)\}")


def name_pattern(name: str) -> re.Pattern[str]:
    """Compiles a name of ours; its fields are groups."""
    return re.compile(_FIELD.sub(r"(?P<\1>[^/]+)", name))


def _fields(name: str) -> list[str]:
    return _FIELD.findall(name)


def _text(pieces: list[tuple[str, ...]]) -> str:
    return " | ".join(" ".join(piece) or "1" for piece in pieces)
