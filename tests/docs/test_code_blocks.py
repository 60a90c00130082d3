"""What the documentation shows works: python blocks and `$ axl` lines run, links lead somewhere.

Each block runs alone in an empty directory, as if a reader had copied just that block. One that
cannot run says so in the line above it: `<!-- not run: needs a TPU -->`.

The blocks of a page that says `<!-- one folder -->` run one after the other in one directory, as
its reader would do. There, `<!-- file: path -->` above a block writes it to a file, and
`<!-- shortened: max_step=9 -->` adds words to each `axl train` of a block. `pip install -e` makes a
folder as good as installed.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from axlearn_core.testing.distributions import write_metadata_of

ROOT = Path(__file__).parents[2]
AXL = str(Path(sysconfig.get_path("scripts")) / "axl")
SERVER = runpy.run_path(str(Path(__file__).with_name("axl_server.py")))["AxlServer"]
FOLDERS = (".", "docs/**", "examples/**", "benchmarks/**", "packages/*")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md"))
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>not run|file|shortened): (?P<note>[^\n]+) -->\n\n?)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ONE_FOLDER = "<!-- one folder -->"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)#\s]+)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    mark: str | None
    note: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        return re.findall(r"^\$ (.+)$", self.text, re.MULTILINE)


def blocks(page: Path) -> list[Block]:
    """All blocks of a page that do not excuse themselves."""
    content = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(content):
        line = content.count("\n", 0, fence.start("text"))
        found.append(Block(page, line, *fence.group("language", "text", "mark", "note")))
    return [block for block in found if block.mark != "not run"]


SEQUENCES = [page for page in PAGES if ONE_FOLDER in page.read_text(encoding="utf-8")]
ALONE = [block for page in PAGES if page not in SEQUENCES for block in blocks(page)]


def of(language: str) -> list[Block]:
    return [block for block in ALONE if block.language == language]


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / f"{block.page.stem}_line_{block.line}.py"  # a file, so errors show lines
    script.write_text(block.text, encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    server = SERVER()
    yield server
    server.close()


@pytest.mark.parametrize("block", of("console"), ids=str)
def test_console_block_runs(block, tmp_path, server):
    for command in block.commands():
        program, *words = shlex.split(command, comments=True)
        assert program == "axl", f"{block}: only axl is run here, mark it `<!-- not run: why -->`"
        axl(block, server, words, cwd=tmp_path)


@pytest.mark.parametrize("page", SEQUENCES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch, server):
    for block in blocks(page):
        if block.mark == "file":
            (tmp_path / block.note).write_text(block.text, encoding="utf-8")
        for command in block.commands() if block.language == "console" else ():
            match shlex.split(command, comments=True):
                case ["axl", "train", *words] if block.mark == "shortened":
                    words = ["train", *words, *shlex.split(block.note)]
                    axl(block, server, words, cwd=tmp_path)
                case ["axl", *words]:
                    axl(block, server, words, cwd=tmp_path)
                case ["pytest", *words]:
                    run(block, sys.executable, "-m", "pytest", *words, cwd=tmp_path)
                case ["pip", "install", "-e", folder]:
                    source = write_metadata_of(tmp_path / folder.partition("[")[0])
                    monkeypatch.setenv("PYTHONPATH", str(source), prepend=os.pathsep)
                case _:
                    pytest.fail(f"{block}: mark it `<!-- not run: why -->`: {command}")


def axl(block: Block, server: Any, words: list[str], cwd: Path) -> None:
    """Runs a command; one for other hardware starts anew, as it sets what JAX reads at import."""
    if words[0] == "plan" or "--hardware" in words:
        run(block, AXL, *words, cwd=cwd)
    else:
        done = server.run(words, cwd)
        assert done.returncode == 0, f"{block}: axl {shlex.join(words)}\n{done.output}"


def run(block: Block, *command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{block}: {shlex.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    targets = {link["target"] for link in LINK.finditer(page.read_text(encoding="utf-8"))}
    assert [target for target in sorted(targets) if not (page.parent / target).exists()] == []


def test_an_excuse_belongs_to_the_next_block_only():
    page = "<!-- not run: why -->\n```python\na\n```\n\n```python\nb\n```\n" * 2
    assert [fence["mark"] for fence in FENCE.finditer(page)] == ["not run", None] * 2
