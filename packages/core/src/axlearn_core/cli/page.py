"""Pieces of HTML pages that load nothing: light or dark, wide or narrow, one style for all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path


def document(title: str, body: Iterable[str], *, style: str = "", script: str = "") -> str:
    """Returns a whole page.

    The page itself forbids the browser to load anything and to run any script but this one, so
    text that slipped through could do no harm.

    Args:
        title: plain text.
        body: HTML of its sections; empty ones are left out.
        style: CSS that only this page needs.
        script: JavaScript, run once the body is there.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    content = "\n".join(section for section in body if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{asset('page.css')}{style}</style></head>\n"
        f"<body>\n{content}\n{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def asset(name: str) -> str:
    """Returns a style sheet or a script that lies beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def facts(values: dict[str, str]) -> str:
    """Shows a few values, each in a box with its name."""
    cells = "".join(
        f"<div><span class=soft>{escape(name)}</span><b>{escape(value)}</b></div>"
        for name, value in values.items()
    )
    return f"<div class=facts>{cells}</div>"


def bar(parts: Sequence[tuple[float, str]], label: str, *, mark: float | None = None) -> str:
    """Draws fractions of the width one after another in colours, and a line at `mark`."""
    drawn, at = "", 0.0
    for fraction, colour in parts:
        drawn += (
            f"<rect x='{at * 1000:.1f}' width='{fraction * 1000:.1f}' height='20' "
            f"fill='var(--{colour})'/>"
        )
        at += fraction
    if mark is not None:
        drawn += f"<rect x='{mark * 1000 - 2:.1f}' width='4' height='20' fill='var(--bad)'/>"
    return (
        f"<svg class=bar viewBox='0 0 1000 20' preserveAspectRatio='none' role='img' "
        f"aria-label='{escape(label)}'>{drawn}</svg>"
    )


def named_bar(name: str, value: str, parts: Sequence[tuple[float, str]]) -> str:
    """Draws a bar below its name and value."""
    return (
        f"<div class=row><div class=names><span>{escape(name)}</span>"
        f"<span class=soft>{escape(value)}</span></div>{bar(parts, f'{name}: {value}')}</div>"
    )


def legend(parts: Iterable[tuple[str, str]]) -> str:
    """Explains colours: pairs of a text and a colour."""
    return f"<p class=legend>{''.join(f'<span>{key(c)}{escape(t)}</span>' for t, c in parts)}</p>"


def key(colour: str, *, round: bool = False) -> str:
    """A spot of a colour."""
    return f"<i class='key{' round' * round}' style='background:var(--{colour})'></i>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, kinds: str) -> str:
    """Returns a table that scrolls by itself where it is too wide.

    Args:
        header: titles of the columns, plain text.
        rows: of plain text.
        kinds: a letter for each column: n number, p path of a config, t text, w word. Paths and
            texts may wrap.
    """
    names = {"n": " class=number", "p": " class=path", "t": " class=text", "w": ""}
    classes = [names[kind] for kind in kinds]
    titles = "".join(
        f"<th{kind}>{escape(title)}</th>" for kind, title in zip(classes, header, strict=True)
    )
    lines = "".join(
        f"<tr>{''.join(f'<td{k}>{escape(c)}</td>' for k, c in zip(classes, row, strict=True))}</tr>"
        for row in rows
    )
    return (
        f"<div class=scroll><table><thead><tr>{titles}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def details(summary: str, content: str, *, open: bool = False) -> str:
    """Content behind a line that opens it."""
    return f"<details{' open' * open}><summary>{escape(summary)}</summary>{content}</details>"
