"""The axl command in processes of their own, with distributions as pip would leave them."""

import json
import subprocess
import sys

import pytest

from axlearn_core.testing.distributions import write_distribution

COMMANDS = """
from axlearn_core.plugins import CommandRecord, LayerRecord, hookimpl

@hookimpl
def axlearn_commands():
    return [
        CommandRecord("greet", "acme_tools.commands:greet", "Say hello."),
        CommandRecord("plugins", "acme_tools.commands:greet", "Another plugins command."),
        CommandRecord("fail", "acme_tools.commands:fail", "Fail."),
        CommandRecord("hang", "acme_tools.commands:hang", "Be interrupted."),
        CommandRecord("odd", "acme_tools.commands:odd", "No command at all."),
    ]

@hookimpl
def axlearn_layers():
    return [LayerRecord("widget", "acme_tools.widget:Widget", "A widget.")]
"""
MODULE = """
import click
from axlearn_core.errors import UserError

@click.command()
def greet():
    click.echo("hello")

@click.command()
def fail():
    raise UserError("the moon is down; wait until it rises")

@click.command()
def hang():
    raise KeyboardInterrupt

odd = 3
"""


@pytest.fixture
def site(tmp_path):
    write_distribution(tmp_path, "acme-tools", "2.0", COMMANDS, modules={"commands": MODULE})
    return tmp_path


@pytest.fixture
def axl(site, seeing):
    """Runs axl in a process that sees the folder of fake distributions."""

    def axl(*arguments, **environ):
        return subprocess.run(
            [sys.executable, "-m", "axlearn_core.cli.main", *arguments],
            env=seeing(site, **environ),
            capture_output=True,
            text=True,
        )

    return axl


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plugins"], ["components"], ["hooks"], ["no-such-command"]]
)
def test_it_imports_neither_jax_nor_tensorflow(site, seeing, arguments):
    program = (
        "import sys; from axlearn_core.cli.main import main; main(sys.argv[1:]); "
        "heavy = {'jax', 'jaxlib', 'tensorflow', 'orbax', 'rich', 'acme_tools.commands'}; "
        "sys.exit(f'imported {heavy & sys.modules.keys()}' if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=seeing(site),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_command_it_shows_the_help(axl):
    assert axl().stderr.startswith("Usage: axl ")


def test_help_lists_commands_of_core_and_of_plugins(axl):
    output = axl("--help").stdout
    assert "List plugins and problems." in output
    assert "greet " in output and "Say hello." in output


def test_a_plugin_command_runs(axl):
    assert axl("greet").stdout == "hello\n"


def test_a_plugin_cannot_take_the_name_of_a_core_command(axl):
    assert "PLUGIN" in axl("plugins").stdout
    assert axl("acme-tools/plugins").stdout == "hello\n"
    assert "acme-tools/plugins" in axl("--help").stdout


def test_a_target_that_is_no_command_is_named(axl):
    done = axl("odd")
    assert done.returncode == 1
    assert (
        "command acme-tools/odd must be a click command; acme_tools.commands:odd is 3"
        in done.stderr
    )


def test_an_unknown_command_is_answered_with_a_near_name(axl):
    done = axl("gret")
    assert done.returncode == 2
    assert done.stderr.startswith("axl: error: there is no command 'gret'. Did you mean 'greet'")


def test_an_error_of_the_user_is_one_message_and_no_traceback(axl):
    done = axl("fail")
    assert done.returncode == 1
    assert done.stderr == "axl: error: the moon is down; wait until it rises\n"


@pytest.mark.parametrize("arguments", [["-v", "fail"], ["fail", "-v"], ["fail", "--verbose"]])
def test_verbose_adds_the_traceback(axl, arguments):
    assert "Traceback (most recent call last)" in axl(*arguments).stderr


def test_an_interrupt_is_one_line_and_exit_code_130(axl):
    done = axl("hang")
    assert done.returncode == 130
    assert done.stderr.strip() == "axl: interrupted"


def test_plugins_shows_what_is_wrong_and_the_fix(axl, site):
    write_distribution(site, "acme-broken", plugin="import no_such_module")
    output = axl("plugins").stdout
    assert "acme-tools" in output
    assert "acme-broken: importing acme_broken._plugin failed" in output
    assert "fix: pip install --upgrade acme-broken" in output


def test_plugins_as_json_tells_status_version_and_reason(axl, site):
    write_distribution(site, "acme-old", requires=["axlearn-core>=99"])
    output = axl("plugins", "--json", AXLEARN_DISABLE_PLUGINS="acme-tools").stdout
    plugins = {plugin["distribution"]: plugin for plugin in json.loads(output)}
    assert plugins["acme-tools"]["status"] == "disabled"
    assert plugins["acme-tools"]["version"] == "2.0"
    assert plugins["acme-old"]["status"] == "failed"
    assert "needs axlearn-core >=99" in plugins["acme-old"]["why"]


def test_plugins_ends_with_a_count_of_each_status(axl, site):
    write_distribution(site, "acme-broken", plugin="import no_such_module")
    write_distribution(site, "acme-late", plugin="1 / 0")
    write_distribution(site, "acme-idle")
    output = axl("plugins", AXLEARN_DISABLE_PLUGINS="acme-idle,acme-none").stdout
    counts = output.splitlines()[-1]
    assert counts.endswith(", 2 failed, 1 disabled, 1 missing")
    assert counts.startswith(f"{len(output.split(chr(10) * 2)[0].splitlines()) - 1} plugins: ")


def test_the_doctor_examines_one_plugin_and_fails_if_something_must_be_fixed(axl):
    done = axl("plugins", "doctor", "acme-tools")
    assert done.returncode == 1
    assert done.stdout.startswith("acme-tools 2.0: 6 components, imported in ")
    assert (
        "  error: layer widget: importing acme_tools.widget:Widget failed: ModuleNotFoundError: "
        "No module named 'acme_tools.widget'\n"
        "    fix: correct the record's target, or add the module acme_tools.widget\n"
    ) in done.stdout
    assert done.stdout.endswith("\n1 plugin: 3 errors, 1 warning\n")


def test_the_doctor_as_json_names_severity_fault_and_fix(axl):
    (examined,) = json.loads(axl("plugins", "doctor", "acme-tools", "--json").stdout)
    assert examined["distribution"] == "acme-tools" and examined["version"] == "2.0"
    assert {"severity", "what", "fix"} == set(examined["findings"][0])


def test_the_doctor_of_a_sound_plugin_succeeds(axl):
    done = axl("plugins", "doctor", "axlearn-core")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(" s, ok\n\n1 plugin: 0 errors, 0 warnings\n")


def test_the_doctor_answers_an_unknown_plugin_with_near_names(axl):
    done = axl("plugins", "doctor", "acme-tool")
    assert done.returncode == 1
    assert "there is no plugin 'acme-tool'. Did you mean 'acme-tools'?" in done.stderr


def test_strict_mode_makes_a_problem_an_error(axl, site):
    write_distribution(site, "acme-broken", plugin="import no_such_module")
    done = axl("components", AXLEARN_STRICT_PLUGINS="1")
    assert done.returncode == 1
    assert done.stderr.startswith("axl: error: plugin acme-broken: importing")


def test_components_can_be_limited_to_a_kind_in_singular_or_plural(axl):
    for kind in ("layer", "layers"):
        found = json.loads(axl("components", kind, "--json").stdout)
        assert {component["kind"] for component in found} == {"layer"}
        assert "acme-tools/widget" in [component["qualified_name"] for component in found]


def test_components_shows_a_conflict_by_its_qualified_names(axl, site):
    plugin = COMMANDS.replace("acme_tools", "acme_other")
    write_distribution(site, "acme-other", plugin=plugin)
    output = axl("components", "layer").stdout
    assert "acme-tools/widget" in output and "acme-other/widget" in output
    assert "write acme-other/greet or acme-tools/greet" in axl("greet").stderr


def test_hooks_lists_every_hook_with_its_plugins(axl):
    hooks = {hook["hook"]: hook for hook in json.loads(axl("hooks", "--json").stdout)}
    assert "acme-tools" in hooks["axlearn_commands"]["plugins"]
    assert hooks["axlearn_configure_trainer"]["role"] == "change"
    assert hooks["axlearn_run_started"]["signature"].endswith("(event: RunStarted) -> None")
    assert len(hooks) == 18 + 5 + 1
