"""Start-up is cheap because of what it leaves out; seconds are shown, never judged.

JAX in particular reads its environment when it starts, so plugins must be known before that.
"""

import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

AXL = str(Path(sysconfig.get_path("scripts")) / "axl")
HEAVY = {"jax", "jaxlib", "tensorflow", "seqio", "grain", "orbax", "tensorstore", "optax"}
IMPORTED = re.compile(r"^import time:.*\|\s*(\w+)[\w.]*$", re.MULTILINE)


def packages_imported_by(*arguments: str) -> set[str]:
    """Top-level names that a Python command imports, from the interpreter's own list."""
    command = [sys.executable, "-X", "importtime", *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, re.sub(r"import time:.*\n", "", done.stderr)
    names = set(IMPORTED.findall(done.stderr))
    print(f"{seconds:6.2f} s, {len(names):4d} packages: {' '.join(arguments)}")
    return names


@pytest.fixture(autouse=True)
def show_seconds(capsys):
    """Print the measured times although the tests pass."""
    yield
    shown = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{shown}", end="")


def test_importing_core_imports_nothing_heavy():
    assert packages_imported_by("-c", "import axlearn_core") & HEAVY == set()


@pytest.mark.parametrize(
    "words", ["--help", "plugins", "components", "experiments", "hooks", "generate --help"]
)
def test_asking_axl_imports_nothing_heavy(words):
    assert packages_imported_by(AXL, *words.split()) & HEAVY == set()


def test_starting_a_plugin_imports_nothing_heavy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert packages_imported_by(AXL, "plugin", "new", "acme-norms") & HEAVY == set()


@pytest.mark.parametrize("words", ["train", "config show", "kernels"])
def test_the_environment_is_set_before_jax_reads_it(words):
    program = (
        "import sys\n"
        "from axlearn_core.cli import machine, main\n"
        "machine.apply_environment = lambda *_: sys.exit()\n"
        f"sys.argv = ['axl', *'{words} axlearn_core.testing.tiny:experiment'.split()]\n"
        "main.main()\n"
    )
    assert packages_imported_by("-c", program) & HEAVY == set()


def test_a_heavy_import_is_seen():
    assert "jax" in packages_imported_by("-c", "import jax")
