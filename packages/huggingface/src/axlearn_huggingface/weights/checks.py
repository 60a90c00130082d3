"""Every parameter is set once, and every tensor used once; or an error that lists what is not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from axlearn_huggingface.weights.errors import WeightsError, listing
from axlearn_huggingface.weights.mapping import Rule, WeightMapping


def check_parameters(declared: Collection[str], set_: Sequence[str], idle: Sequence[Rule]) -> None:
    """Checks that rules and parameters fit.

    Args:
        declared: names of all parameters of the model.
        set_: those that rules set, as often as they do.
        idle: rules that match no parameter.

    Raises:
        WeightsError: if a parameter is not in `set_` once, or there is an idle rule.
    """
    times = Counter(set_)
    unset = [name for name in declared if not times[name]]
    twice = [name for name, count in times.items() if count > 1]
    idle_names = [name for rule in idle for name in rule.ours]
    _raise_if_any(
        "the mapping and the model do not fit",
        (unset, "parameters that no rule sets", idle_names, "add a rule, or take the part out"),
        (twice, "parameters that two rules set", (), "narrow one of the regular expressions"),
        (
            idle_names,
            "rules that match no parameter",
            unset,
            "correct the name, or say optional=True if not every model has it",
        ),
    )


def check_tensors(
    mapping: WeightMapping, present: Collection[str] | None, used: Sequence[str]
) -> None:
    """Checks that steps and tensors fit.

    Args:
        mapping: says which tensors need not be used.
        present: names of the tensors that there are, or None if they are to be made.
        used: those that steps read or write, as often as they do.

    Raises:
        WeightsError: if a tensor is not in both once.
    """
    twice = [name for name, count in Counter(used).items() if count > 1]
    missing = [] if present is None else [name for name in used if name not in present]
    unused = unused_tensors(mapping, present or (), used)
    tied = [name for name in missing if name in mapping.ties]
    untie = (
        f"; {tied[0]} may be tied to {mapping.ties[tied[0]]}: build a tied model" if tied else ""
    )
    _raise_if_any(
        "the tensors and the model do not fit",
        (missing, "tensors that are not there", unused, f"is it another kind of model?{untie}"),
        (
            unused,
            "tensors that no rule uses",
            missing,
            "build the model with the part, or add a rule",
        ),
        (twice, "tensors that two parameters need", (), "narrow a rule's regular expression"),
    )


def unused_tensors(
    mapping: WeightMapping, present: Collection[str], used: Collection[str]
) -> list[str]:
    """Returns the tensors that should be used and are not."""
    allowed = re.compile("|".join(mapping.ignored) or r"(?!)")
    spare = set(used) | set(mapping.ties)
    return [name for name in present if name not in spare and not allowed.fullmatch(name)]


def _raise_if_any(what: str, *problems: tuple[Sequence[str], str, Sequence[str], str]) -> None:
    found = [
        f"{len(names)} {problem} ({advice}):{listing(names, near)}"
        for names, problem, near, advice in problems
        if names
    ]
    if found:
        raise WeightsError("\n".join([f"{what}:", *found]))
