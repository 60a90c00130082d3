"""Runs `axl` commands, each in a fork of this process, which has imported what they import.

Python and JAX take seconds to start, far longer than most commands. Nothing is computed before a
fork, so that each command starts its own JAX backend, as a process of its own would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, NamedTuple

IMPORTED = ("jax", "axlearn_core.training.trainer", "axlearn_layers", "axlearn_learners")


class Done(NamedTuple):
    """How a command has ended, and what it wrote, errors included."""

    returncode: int
    output: str


class AxlServer:
    """The other side: starts the process that forks, and asks it for one command at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, words: list[str], folder: Path) -> Done:
        """Runs `axl WORDS` in a folder, with the environment that this process has now."""
        output = folder.parent / f"{folder.name}.output"
        request = (words, str(folder), str(output), dict(os.environ))
        to, back = self._process.stdin, self._process.stdout
        assert to and back
        to.write(json.dumps(request) + "\n")
        to.flush()
        return Done(int(back.readline()), output.read_text(encoding="utf-8", errors="replace"))

    def close(self) -> None:
        self._process.communicate()


def serve(requests: IO[str], answers: IO[str]) -> None:
    for request in requests:
        words, folder, output, environment = json.loads(request)
        child = os.fork()
        if not child:
            become(words, folder, output, environment)
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def become(words: list[str], folder: str, output: str, environment: dict[str, str]) -> None:
    """Turns this process into a command that has just started."""
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(ours, theirs)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    known = set(sys.path)
    added = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p not in known]
    sys.path[:0] = filter(None, added)
    from axlearn_core.cli.main import main

    sys.exit(main(words))


if __name__ == "__main__":
    del sys.path[0]  # this folder, which `axl` does not look into
    for module in IMPORTED:
        __import__(module)
    answers = os.fdopen(os.dup(1), "w")
    serve(sys.stdin, answers)
