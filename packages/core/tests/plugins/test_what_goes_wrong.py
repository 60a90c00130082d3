"""Everything that can be wrong with a plugin: axl names it, says what to do, and works on.

Each case is a distribution as pip would leave it, next to a sound one, and a process of its own.
"""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from axlearn_core.testing.distributions import write_distribution

SOUND = """
from axlearn_core.plugins import CommandRecord, LayerRecord, hookimpl

@hookimpl
def axlearn_commands():
    return [CommandRecord("greet", "acme_sound.commands:greet", "Say hello.")]

@hookimpl
def axlearn_layers():
    return [LayerRecord("widget", "acme_sound.widget:Widget", "A widget.")]
"""
GREET = """
import click

@click.command()
def greet():
    click.echo("hello")
"""
# `axl` twice in one process: to see what is said, and that the sound plugin is there.
PROGRAM = """
import sys
from axlearn_core.cli.main import main
sys.exit(main(sys.argv[1:]) or main(["greet"]))
"""


def layers(returned, hook="axlearn_layers"):
    return f"from axlearn_core.plugins import *\n@hookimpl\ndef {hook}():\n    return {returned}\n"


@dataclass(frozen=True)
class Case:
    """A wrong plugin, and what `axl plugins` says of it."""

    plugin: str
    status: str  # in the table
    what: str
    fix: str
    requires: str = "axlearn-core>=0.1,<0.2"


DISABLE = "AXLEARN_DISABLE_PLUGINS=acme-wrong"
CASES = {
    "raises on import": Case(
        "1 / 0",
        "failed",
        "importing acme_wrong._plugin failed: ZeroDivisionError: division by zero",
        f"pip install --upgrade acme-wrong, or go without it: {DISABLE}",
    ),
    "ends Python on import": Case(
        "raise SystemExit(3)",
        "failed",
        "importing acme_wrong._plugin failed: SystemExit: 3",
        DISABLE,
    ),
    "is no Python": Case(
        "def",
        "failed",
        "importing acme_wrong._plugin failed: SyntaxError: invalid syntax (_plugin.py, line 1)",
        DISABLE,
    ),
    "has a typo in the name of a hook": Case(
        layers([], hook="axlearn_layer"),
        "failed",
        "there is no hook axlearn_layer. Did you mean 'axlearn_layers'",
        "use one of: axlearn_layers, ",
    ),
    "needs a newer core": Case(
        "1 / 0",
        "failed",
        "it needs axlearn-core >=99, and 0.",
        "pip install 'axlearn-core>=99', or another version of this plugin",
        requires="axlearn-core>=99",
    ),
    "has two components of one name": Case(
        layers("[LayerRecord('a', 'pkg:A', 'A.'), LayerRecord('a', 'pkg:B', 'B.')]"),
        "failed",
        "axlearn_layers returned two records named 'a'",
        "give each component of a kind its own name",
    ),
    "returns a record of another kind": Case(
        layers("[ModelRecord('a', 'pkg:A', 'A.')]"),
        "failed",
        "axlearn_layers must return a list of LayerRecord; got ModelRecord(",
        "return [LayerRecord(...), ...]",
    ),
    "returns a malformed record": Case(
        layers("[LayerRecord('Norm', 'pkg:A', 'A.')]"),
        "failed",
        "axlearn_layers raised RecordError: LayerRecord('Norm'): name must be lower-case",
        DISABLE,
    ),
    "ends Python in a hook": Case(
        layers("exit(3)"), "failed", "axlearn_layers raised SystemExit: 3", DISABLE
    ),
    "imports jax": Case(
        "import acme_wrong.norms",
        "heavy",
        "it imports jax when axl reads it (acme_wrong._plugin:1 > acme_wrong.norms:1 > jax): JAX "
        "starts before axl has chosen its platform and flags",
        "take the import out of acme_wrong._plugin",
    ),
    "takes its time": Case(
        "import time; time.sleep(0.6)",  # never less, however busy the machine is
        "slow",
        "s, for which every axl command waits (at most 0.5 s are fine)",
        "let the module of its entry point hold records and nothing else",
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "jax.py").touch()  # quicker than the real one, and comes before it
    write_distribution(tmp_path, "acme-sound", plugin=SOUND, modules={"commands": GREET})
    return tmp_path


@pytest.fixture
def start(site, seeing):
    """Starts a program with arguments that sees the distributions of this test."""

    def start(program, *arguments):
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=seeing(site),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def axl(start):
    """Runs axl, then the command of the sound plugin; returns what the first of both printed."""

    def axl(*arguments):
        process = start(PROGRAM, *arguments)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.endswith("hello\n")
        return out.removesuffix("hello\n")

    return axl


def install(site, case):
    modules = {"norms": "import jax"}
    write_distribution(
        site, "acme-wrong", "1.0", case.plugin, requires=[case.requires], modules=modules
    )


@every_case
def test_it_is_named_with_what_is_wrong_and_what_to_do(site, axl, case):
    install(site, case)
    table, *reasons, counts = axl("plugins").split("\n\n")
    (row,) = [line for line in table.splitlines() if line.startswith("acme-wrong ")]
    assert row.split()[2] == case.status
    (reason,) = [reason for reason in reasons if reason.startswith("acme-wrong: ")]
    what, fix = reason.splitlines()
    assert case.what in what
    assert fix.startswith("  fix: ") and case.fix in fix
    assert f", 1 {case.status}" in counts


@pytest.mark.parametrize("status", ["failed", "heavy", "slow"])
def test_machines_are_told_the_same(site, axl, status):
    case = next(case for case in CASES.values() if case.status == status)
    install(site, case)
    plugins = {plugin["distribution"]: plugin for plugin in json.loads(axl("plugins", "--json"))}
    wrong = plugins["acme-wrong"]
    assert wrong["status"] == ("failed" if status == "failed" else "ok")  # whether it is in use
    assert case.what in wrong["why"] and case.fix in wrong["fix"]
    assert wrong["import_seconds"] > (0.6 if status == "slow" else 0)
    assert plugins["acme-sound"]["status"] == "ok"


def test_a_heavy_import_is_told_to_whoever_uses_plugins(site, start):
    install(site, CASES["imports jax"])
    _, err = start(PROGRAM, "components").communicate()
    assert "plugin acme-wrong: it imports jax when axl reads it" in err


def test_a_target_that_is_not_there_stops_only_those_who_ask_for_it(site, start):
    record = "[CommandRecord('gone', 'acme_wrong.norms:gone', 'Not there.')]"
    install(site, Case(layers(record, hook="axlearn_commands"), "", "", ""))
    process = start(PROGRAM, "gone")
    _, err = process.communicate()
    assert process.returncode == 1
    assert err == (
        "axl: error: command acme-wrong/gone: importing acme_wrong.norms:gone failed: "
        "AttributeError: module 'acme_wrong.norms' has no attribute 'gone'\n"
        f"Repair the plugin (pip install --upgrade acme-wrong), or go without it ({DISABLE}).\n"
    )


def test_a_target_that_ends_python_is_told_like_any_other_failure(site, start):
    record = "[CommandRecord('bye', 'acme_wrong.bye:bye', 'Exits.')]"
    source = layers(record, hook="axlearn_commands")
    write_distribution(site, "acme-wrong", plugin=source, modules={"bye": "exit(0)"})
    process = start(PROGRAM, "bye")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "command acme-wrong/bye: importing acme_wrong.bye:bye failed: SystemExit: 0" in err


def test_a_name_of_two_plugins_is_an_error_that_says_how_to_write_it(site, start):
    record = "[CommandRecord('greet', 'acme_wrong.norms:greet', 'Another.')]"
    install(site, Case(layers(record, hook="axlearn_commands"), "", "", ""))
    process = start(PROGRAM, "greet")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "command 'greet' is provided more than once; write acme-sound/greet or acme-" in err


def test_an_import_that_hangs_can_be_interrupted_and_is_named(site, start):
    hang = "import sys, time\nprint('here', file=sys.stderr, flush=True)\ntime.sleep(600)"
    install(site, Case(hang, "", "", ""))
    # What a shell starts in the background ignores Ctrl-C, also these tests and this process.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = start(heed + PROGRAM, "plugins")
    assert process.stderr.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.strip() == (
        f"axl: interrupted while plugin acme-wrong was imported; to go without it: {DISABLE}"
    )
