"""Reads an algebra over named terms: `(causal | prefix(3)) & ~window(8)`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from axlearn_core.config import near_names

Terms = Mapping[str, Callable[..., Any]]
"""What a name makes: called with the integers in brackets, or with nothing where there are none."""


def parse_algebra(text: str, terms: Terms) -> Any:
    """Evaluates names, integers in brackets, `&`, `|`, `~` and parentheses; nothing else runs.

    Raises:
        ValueError: for anything else; the message names the part and what there is.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no expression ({error.msg}). {_forms(terms)}") from error
    return _evaluate(tree.body, terms)


def _evaluate(node: ast.expr, terms: Terms) -> Any:
    match node:
        case ast.BinOp(left, ast.BitAnd(), right):
            return _evaluate(left, terms) & _evaluate(right, terms)
        case ast.BinOp(left, ast.BitOr(), right):
            return _evaluate(left, terms) | _evaluate(right, terms)
        case ast.UnaryOp(ast.Invert(), inner):
            return ~_evaluate(inner, terms)
        case ast.Name(name):
            return _term(name, [], terms)
        case ast.Call(ast.Name(name), arguments, []):
            return _term(name, arguments, terms)
    raise ValueError(f"{ast.unparse(node)!r} has no meaning here. {_forms(terms)}")


def _term(name: str, arguments: list[ast.expr], terms: Terms) -> Any:
    if name not in terms:
        raise ValueError(f"there is no {name!r}.{near_names(name, terms)} {_forms(terms)}")
    values = [a.value for a in arguments if isinstance(a, ast.Constant) and type(a.value) is int]
    if not len(values) == len(arguments) == len(inspect.signature(terms[name]).parameters):
        given = ", ".join(map(ast.unparse, arguments))
        raise ValueError(f"write {_form(name, terms)} with integers, not {name}({given})")
    return terms[name](*values)


def _forms(terms: Terms) -> str:
    return f"Write {', '.join(_form(name, terms) for name in terms)}, joined by &, | and ~."


def _form(name: str, terms: Terms) -> str:
    parameters = ", ".join(inspect.signature(terms[name]).parameters)
    return f"{name}({parameters})" if parameters else name
