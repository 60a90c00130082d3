"""What the documentation shows works: python blocks and `$ axl` lines run, links lead somewhere.

Each block runs alone in an empty directory, as if a reader had copied just that block. One that
cannot run says so in the line above it: `<!-- not run: needs a TPU -->`.
"""

import re
import runpy
import shlex
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AXL = str(Path(sysconfig.get_path("scripts")) / "axl")
FOLDERS = (".", "docs/**", "examples/**", "benchmarks/**", "packages/*")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md"))
FENCE = re.compile(
    r"(?P<excuse>^<!-- not run: .+ -->\n\n?)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)#\s]+)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All blocks of one language that do not excuse themselves."""
    found = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(content):
            if fence["language"] == language and not fence["excuse"]:
                line = content.count("\n", 0, fence.start("text"))
                found.append(Block(page, line, language, fence["text"]))
    return found


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / f"{block.page.stem}_line_{block.line}.py"  # a file, so errors show lines
    script.write_text(block.text, encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_console_block_runs(block, tmp_path):
    for command in re.findall(r"^\$ (.+)$", block.text, re.MULTILINE):
        program, *words = shlex.split(command, comments=True)
        assert program == "axl", f"{block}: only axl is run here, mark it `<!-- not run: why -->`"
        done = subprocess.run([AXL, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}: {command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    targets = {link["target"] for link in LINK.finditer(page.read_text(encoding="utf-8"))}
    assert [target for target in sorted(targets) if not (page.parent / target).exists()] == []


def test_an_excuse_belongs_to_the_next_block_only():
    page = "<!-- not run: why -->\n```python\na\n```\n\n```python\nb\n```\n"
    assert [bool(fence["excuse"]) for fence in FENCE.finditer(page)] == [True, False]
