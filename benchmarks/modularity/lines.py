"""Counts lines: of source, of changes that git sees, and of those that git cannot see."""

from __future__ import annotations

import ast
import contextlib
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

ROOT = Path(__file__).parents[2]
_NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
)


def code_lines(source: str) -> set[int]:
    """Returns the numbers of the lines that hold code: no blank ones, comments or docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def count(path: Path) -> int:
    """Counts the lines of code in a file."""
    return len(code_lines(path.read_text(encoding="utf-8")))


def private_names(path: Path) -> list[str]:
    """Lists what a file uses that is not public: an underscore says so, also in a module's name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    used = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used += [*(node.module or "").split("."), *(name.name for name in node.names)]
        elif isinstance(node, ast.Import):
            used += [part for name in node.names for part in name.name.split(".")]
    return sorted({n for n in used if n.startswith("_") and not n.startswith("__")} - own)


# What git sees.


def git(*words: str, root: Path = ROOT) -> str:
    """Runs git and returns what it prints."""
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


def changed_lines(folder: str = "packages", root: Path = ROOT) -> int:
    """Counts the lines below a folder that differ from the last commit, new files included."""
    changed = _added_and_removed(git("diff", "--numstat", "HEAD", "--", folder, root=root))
    untracked = git("ls-files", "--others", "--exclude-standard", "--", folder, root=root)
    for name in untracked.splitlines():
        changed += len((root / name).read_bytes().splitlines())
    return changed


def changed_along_with(feature: Path, folder: str = "packages", root: Path = ROOT) -> int:
    """Counts the lines below a folder that changed in the commits which added a feature's files."""
    added = git("log", "--diff-filter=A", "--format=%H %P", "--", str(feature), root=root)
    changed = 0
    for commit, *parents in map(str.split, added.splitlines()):
        if parents:  # the only commit of a shallow clone adds everything there is
            changed += _added_and_removed(
                git("diff", "--numstat", parents[0], commit, "--", folder, root=root)
            )
    return changed


def _added_and_removed(numstat: str) -> int:
    counts = [line.split("\t")[:2] for line in numstat.splitlines()]
    return sum(int(n) if n.isdigit() else 1 for pair in counts for n in pair)  # "-" is binary


# What git cannot see.


def definitions(prefix: str = "axlearn_") -> dict[str, int]:
    """Returns what identifies each function and class attribute of the packages in this process.

    A plugin that assigns to a class of ours changes existing code without touching a file.
    """
    found: dict[str, int] = {}
    for name, module in list(sys.modules.items()):
        if not name.startswith(prefix):
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__module__ == name:
                found[f"{name}.{key}"] = id(value.__code__)
            elif isinstance(value, type) and value.__module__ == name:
                members = vars(value).items()
                found |= {f"{name}.{key}.{k}": _identity(v) for k, v in members if _is_code(k)}
    return found


def _is_code(name: str) -> bool:
    # What classes fill in by themselves as they are used: abstract caches, evaluated annotations.
    return name not in ("_annotations", "_abc_impl", "__dict__", "__weakref__")


def _identity(value: Any) -> int:
    return id(getattr(value, "__code__", value))


def patched(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Lists the definitions that were there and are now others, or gone."""
    return sorted(name for name, identity in before.items() if after.get(name) != identity)


# What ran.


@contextlib.contextmanager
def tracing(folder: Path) -> Iterator[set[tuple[str, int]]]:
    """Collects (file name, line) of all lines of a folder's files that run within the block."""
    ran: set[tuple[str, int]] = set()
    inside: dict[CodeType, bool] = {}

    def trace_call(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in inside:
            inside[code] = Path(code.co_filename).is_relative_to(folder)
        return trace_line if inside[code] else None

    def trace_line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            ran.add((frame.f_code.co_filename, frame.f_lineno))
        return trace_line

    previous = sys.gettrace()
    sys.settrace(trace_call)
    try:
        yield ran
    finally:
        sys.settrace(previous)
