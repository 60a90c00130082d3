"""The check of breaking changes sees them, in a repository with a package of a few lines."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parent / "breaking_changes.py"
WHO = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
RELEASED = {
    "__init__.py": "from axlearn_core.text import shout\n\n__all__ = ['shout']\n",
    "text.py": "def shout(text): ...\n\ndef helper(): ...\n",
    "tools/__init__.py": "",
    "tools/paint.py": "def paint(color): ...\n\ndef _mix(): ...\n",
}


class Repository:
    """packages/core and what has become of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet")
        self.version("0.1.0")
        for name, text in RELEASED.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / "packages/core/src/axlearn_core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def version(self, version: str) -> None:
        path = self.root / "packages/core/pyproject.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'[project]\nversion = "{version}"\n')

    def git(self, *words: str) -> None:
        subprocess.run(["git", *WHO, *words], cwd=self.root, check=True)

    def release(self, tag: str) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", f"--message={tag}")
        self.git("tag", tag)

    def check(self) -> tuple[int, str]:
        command = [sys.executable, str(CHECK), "core"]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True)
        assert not done.stderr
        return done.returncode, done.stdout


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


@pytest.fixture
def released(repository):
    repository.release("core-0.1.0")
    return repository


@pytest.mark.parametrize("other", ["layers-0.1.0", "extra-core-0.1.0", "core-new"])
def test_without_a_tag_of_the_package_nothing_is_compared(repository, other):
    repository.release(other)
    message = "core: no tag core-* is in this history, so nothing is compared\n"
    assert repository.check() == (0, message)


def test_the_release_itself_breaks_nothing(released):
    assert released.check() == (0, "core 0.1.0, breaking changes since core-0.1.0: 0\n")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("__init__.py", "__all__ = ['other']\nother = 1\n", "shout: Public object was removed"),
        ("text.py", "def shout(): ...\n", "shout(text): Parameter was removed"),
        ("text.py", "def shout(text, how): ...\n", "shout(how): Parameter was added as required"),
        ("tools/paint.py", "", "paint: Public object was removed"),
    ],
)
def test_what_users_lose_is_reported_and_fails(released, file, text, said):
    released.write(file, text)
    code, output = released.check()
    assert code == 1 and said in output
    assert "core 0.1.0, breaking changes since core-0.1.0: 1\n" in output
    assert "core: keep what users have, or raise its version" in output


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("text.py", "def shout(text, how='loud'): ...\n"),  # and the helper, which nobody exports
        ("tools/paint.py", "def paint(color): ...\n"),
    ],
)
def test_what_users_do_not_see_may_change(released, file, text):
    released.write(file, text)
    assert released.check()[0] == 0


def test_a_module_may_move_behind_its_re_export(released):
    released.write("__init__.py", RELEASED["__init__.py"].replace("text", "words"))
    released.write("words.py", RELEASED["text.py"])
    released.write("text.py", "")
    assert released.check()[0] == 0


@pytest.mark.parametrize(("version", "code"), [("0.1.1", 1), ("0.2.0", 0), ("1.0.0", 0)])
def test_a_version_that_promises_nothing_may_break(released, version, code):
    released.version(version)
    released.write("text.py", "def shout(): ...\n")
    assert released.check()[0] == code


def test_from_the_first_major_version_on_a_minor_one_keeps_what_there_is(repository):
    for version in ("0.9.0", "1.2.0"):
        repository.version(version)
        repository.release(f"core-{version}")
    repository.version("1.3.0")
    repository.write("text.py", "def shout(): ...\n")
    code, output = repository.check()
    assert code == 1 and "since core-1.2.0" in output
