"""check_plugin over distributions as pip would leave them."""

import sys

import pytest

from axlearn_core.plugins import Plugin, PluginError, discover
from axlearn_core.plugins.watch import Watch
from axlearn_core.testing import check_plugin
from axlearn_core.testing.doctor import all_plugins, alone

CORE = ["axlearn-core>=0.1,<0.2"]
MODULE = """
import click
from axlearn_core.config import Configurable, ConfigModifier
from axlearn_core.hardware import Hardware
from axlearn_core.hardware.cpu import CPU
from axlearn_core.module import Constant, Layer
from axlearn_core.launch import Launcher
from axlearn_core.observe.writers import Writer
from axlearn_core.testing import tiny
from axlearn_core.training import Input, Learner, Model

class Norm(Layer): pass
class Loss(Model): pass
class Sgd(Learner): pass
class Text(Input): pass
class Words(Configurable): pass
class Csv(Writer): pass
class Starter(Launcher): pass
class Rule(ConfigModifier): pass
class Chip(CPU): platform = "acme"
class Half(Hardware): platform = "acme"
class Kernel:
    priority = 1
    def supports(self, spec): return None
    def __call__(self, spec, inputs): return inputs
class NoKernel: pass
command = click.Command("x")
experiment = tiny.experiment
def adam(): return None
def number(): return 3
def fails(): raise RuntimeError("no data here")
class Adam:
    class Adam(Layer): pass
value = 3
"""
# hook, record, attribute of the right kind, attribute of another kind, and what is said then.
KINDS = [
    ("layers", "LayerRecord", "Norm", "adam", "a subclass of axlearn_core.config.Configurable"),
    ("models", "ModelRecord", "Loss", "Norm", "a subclass of axlearn_core.training.Model"),
    ("learners", "LearnerRecord", "Sgd", "Norm", "a subclass of axlearn_core.training.Learner"),
    ("optimizers", "OptimizerRecord", "adam", "value", "a class or function"),
    ("schedules", "ScheduleRecord", "adam", "value", "a class or function"),
    ("data_sources", "DataSourceRecord", "Text", "Norm", "a subclass of axlearn_core.training.I"),
    ("document_sources", "DocumentSourceRecord", "Text", "adam", "a subclass of axlearn_core.con"),
    ("preprocessors", "PreprocessorRecord", "Words", "adam", "a subclass of axlearn_core.config.C"),
    ("tokenizers", "TokenizerRecord", "Words", "Kernel", "a subclass of axlearn_core.config.Conf"),
    ("hardware", "HardwareRecord", "Chip", "Kernel", "a subclass of axlearn_core.hardware.Hardw"),
    ("kernels", "KernelRecord", "Kernel", "NoKernel", "like axlearn_core.kernels.Kernel"),
    ("mesh_rules", "MeshRuleRecord", "Rule", "Norm", "a ConfigModifier, or the config of one"),
    ("experiments", "ExperimentRecord", "experiment", "number", "a function that returns a Train"),
    ("writers", "WriterRecord", "Csv", "Norm", "a subclass of axlearn_core.observe.writers.Wri"),
    ("checkpoint_formats", "CheckpointFormatRecord", "adam", "value", "a class or function"),
    ("evaluators", "EvaluatorRecord", "adam", "value", "a class or function"),
    ("launchers", "LauncherRecord", "Starter", "Norm", "a subclass of axlearn_core.launch.Launc"),
    ("commands", "CommandRecord", "command", "adam", "a click command"),
]
FIELDS = {"hardware": "platform='acme'", "kernels": "op='op'", "mesh_rules": "pattern='acme'"}
READER = "axlearn_core.testing.doctor.examination.read_alone"
QUIET = "from axlearn_core.plugins import *\n@hookimpl\ndef axlearn_run_finished(event): pass\n"


def plugin(hook, *records):
    return (
        "from axlearn_core.plugins import *\n@hookimpl\n"
        f"def axlearn_{hook}():\n    return [{', '.join(records)}]\n"
    )


def layer(name="norm", target="acme_parts.parts:Norm", summary="A norm."):
    return plugin("layers", f"LayerRecord({name!r}, {target!r}, {summary!r})")


@pytest.fixture
def here(monkeypatch):
    """Reads plugins in this process: most tests are not about the reading, which takes 0.2 s."""

    def read(distribution, others):
        found = discover({}, Watch(clock=lambda: 0.0)).plugins
        found = [plugin for plugin in found if plugin.distribution == distribution]
        return alone.Reading(tuple(found), None)

    monkeypatch.setattr(READER, read)


@pytest.fixture
def check(check_alone, here):
    """Installs acme-parts, sound but for what a test says, and checks it in this process."""
    return check_alone


@pytest.fixture
def check_alone(axlearn_install):
    """The same with a process of its own to read the plugin."""

    def check(source=QUIET, *, name="acme-parts", requires=CORE, modules=None, **options):
        modules = {"parts": MODULE, **(modules or {})}
        axlearn_install(name, plugin=source, requires=requires, modules=modules, **options)
        return check_plugin(name)

    return check


def only(findings, severity):
    assert [finding.severity for finding in findings] == [severity], findings
    return findings[0]


def test_a_sound_plugin_has_no_findings(check_alone):
    assert check_alone(layer()) == ()


def test_a_finding_reads_as_what_and_how_to_mend_it(check):
    (finding,) = check(layer(summary="A norm"))
    assert str(finding) == (
        "warning: layer norm: its summary 'A norm' does not end with a full stop\n"
        "  fix: end it like all others"
    )


@pytest.mark.parametrize(("hook", "record", "right", "wrong", "expected"), KINDS)
def test_a_target_must_be_of_its_kind(check, hook, record, right, wrong, expected):
    name = "op.a" if hook == "kernels" else "a"

    def announced(name, attribute):
        fields = f", {FIELDS[hook]}" if hook in FIELDS else ""
        return f"{record}({name!r}, 'acme_parts.parts:{attribute}', 'It is one.'{fields})"

    findings = check(plugin(hook, announced(name, right), announced(f"{name}.b", wrong)))
    errors = [finding for finding in findings if finding.severity == "error"]
    finding = only(errors, "error")
    assert f" {name}.b must be {expected}" in finding.what
    assert f"acme_parts.parts:{wrong} " in finding.what
    assert "correct the record's target" in finding.fix


def test_a_target_that_its_module_lacks_is_answered_with_near_names(check):
    finding = only(check(layer(target="acme_parts.parts:Nrm")), "error")
    assert "layer norm: importing acme_parts.parts:Nrm failed: AttributeError" in finding.what
    assert "or define Nrm in acme_parts.parts. Did you mean 'Norm'" in finding.fix


def test_a_target_in_a_module_that_is_not_there_is_told_so(check):
    finding = only(check(layer(target="acme_parts.norms:Norm")), "error")
    assert finding.fix == "correct the record's target, or add the module acme_parts.norms"


def test_a_target_whose_module_fails_is_told_how_to_see_where(check):
    findings = check(layer(target="acme_parts.bad:Norm"), modules={"bad": "import no_such"})
    finding = only(findings, "error")
    assert "ModuleNotFoundError: No module named 'no_such'" in finding.what
    assert finding.fix.endswith("python -c 'import acme_parts.bad'")


def test_a_class_must_be_announced_where_it_is_defined(check):
    finding = only(check(layer(target="acme_parts.parts:Constant")), "error")
    assert "is defined elsewhere, so that its configs cannot be saved" in finding.what
    assert finding.fix == (
        "write 'axlearn_core.module.initializers:Constant' as the record's target"
    )


def test_a_class_within_a_class_is_at_home_there(check):
    assert check(layer(target="acme_parts.parts:Adam.Adam")) == ()


def test_an_experiment_is_called(check):
    record = "ExperimentRecord('a', 'acme_parts.parts:fails', 'It fails.')"
    finding = only(check(plugin("experiments", record)), "error")
    assert "calling acme_parts.parts:fails failed: RuntimeError: no data here" in finding.what


def test_a_backend_that_lacks_methods_is_told_which(check):
    record = "HardwareRecord('a', 'acme_parts.parts:Half', 'Half.', platform='acme')"
    finding = only(check(plugin("hardware", record)), "error")
    assert "Can't instantiate abstract class Half" in finding.what and "probe" in finding.what


def test_a_backend_must_be_of_the_platform_of_its_record(check):
    record = "HardwareRecord('a', 'acme_parts.parts:Chip', 'A chip.', platform='acne')"
    finding = only(check(plugin("hardware", record)), "error")
    assert "must be of the platform that the record says, 'acne'" in finding.what


def test_two_backends_of_one_platform_are_a_warning(check, axlearn_install):
    record = "HardwareRecord('a', 'axlearn_core.hardware.cpu:CPU', 'A chip.', platform='cpu')"
    axlearn_install("acme-other", plugin=plugin("hardware", record), requires=CORE)
    finding = only(check(plugin("hardware", record.replace("'a'", "'b'"))), "warning")
    assert "acme-other/a is of the same platform" in finding.what


def test_a_summary_fits_into_a_line(check):
    finding = only(check(layer(summary=f"{'long ' * 16}.")), "warning")
    assert "its summary has 81 characters" in finding.what and "at most 80" in finding.fix


def test_the_name_of_a_kernel_begins_with_its_op(check):
    record = "KernelRecord('flash', 'acme_parts.parts:Kernel', 'Fast.', op='attention')"
    assert "call it attention.flash" in only(check(plugin("kernels", record)), "warning").fix


def test_a_command_of_core_stays_core_s(check):
    record = "CommandRecord('train', 'acme_parts.parts:command', 'Trains.')"
    finding = only(check(plugin("commands", record)), "warning")
    assert "`axl train` is core's own command" in finding.what
    assert finding.fix.endswith("axl acme-parts/train")


def test_a_name_that_another_plugin_has_is_a_warning_that_says_what_to_write(
    check, axlearn_install
):
    axlearn_install("acme-other", plugin=layer(), requires=CORE)
    finding = only(check(layer()), "warning")
    assert "shares its name with acme-other/norm, so the bare name is an error" in finding.what
    assert finding.fix == "rename it, or always write acme-parts/norm"


def test_a_broken_plugin_has_the_finding_that_axl_plugins_shows(check_alone):
    finding = only(check_alone("import no_such"), "error")
    assert "importing acme_parts._plugin failed: ModuleNotFoundError" in finding.what


def test_a_heavy_import_is_an_error_with_its_chain(check_alone, site):
    (site / "torch.py").touch()
    source = f"import acme_parts.early\n{QUIET}"
    finding = only(check_alone(source, modules={"early": "import torch"}), "error")
    sys.modules.pop("torch", None)
    assert "(acme_parts._plugin:1 > acme_parts.early:1 > torch)" in finding.what


def test_a_heavy_import_is_seen_although_it_is_here_already(check_alone, site, monkeypatch):
    (site / "jax.py").touch()
    monkeypatch.setitem(sys.modules, "jax", sys)
    assert "it imports jax when" in only(check_alone(f"import jax\n{QUIET}"), "error").what


def test_a_slow_import_is_a_warning_with_its_seconds(axlearn_install, monkeypatch):
    plugin = Plugin("acme-parts", "1.0", "acme-parts", "ok", import_seconds=0.8)
    monkeypatch.setattr(READER, lambda *_: alone.Reading((plugin,), None))
    axlearn_install("acme-parts", plugin=QUIET, requires=CORE)
    assert "importing it takes 0.8 s" in only(check_plugin("acme-parts"), "warning").what


def test_of_several_imports_the_quickest_counts(axlearn_install, tmp_path):
    source = (
        "import pathlib, time\n"
        f"first = pathlib.Path({str(tmp_path / 'first')!r})\n"
        "time.sleep(0 if first.exists() else 0.6)\nfirst.touch()\n"
    )
    axlearn_install("acme-parts", plugin=source + QUIET, requires=CORE)
    assert check_plugin("acme-parts") == ()


def test_an_import_that_never_ends_is_stopped(axlearn_install):
    axlearn_install("acme-parts", plugin="import time; time.sleep(600)", requires=CORE)
    reading = alone.read_alone("acme-parts", [], limit=1.0)
    assert reading.ended == "importing it took more than 1 s, and was stopped"


def test_what_did_not_end_well_alone_is_not_imported_here(axlearn_install, monkeypatch):
    ended = alone.Reading((), "importing it took more than 30 s, and was stopped")
    monkeypatch.setattr(READER, lambda *_: ended)
    axlearn_install("acme-parts", plugin=QUIET, requires=CORE)
    assert only(check_plugin("acme-parts"), "error").what == ended.ended
    assert "acme_parts._plugin" not in sys.modules


def test_an_import_that_ends_python_is_an_error(check_alone):
    finding = only(check_alone("import os; os._exit(7)"), "error")
    assert finding.what == "importing it ended Python (exit code 7)"


def test_a_plugin_without_hooks_is_a_warning(check):
    finding = only(check("def layers(): return []"), "warning")
    assert "acme_parts._plugin implements no hook, so the plugin adds nothing" in finding.what


@pytest.mark.parametrize("requires", [[], ["jax"], ["axlearn-core>=0.1; extra == 'x'"]])
def test_a_plugin_says_which_core_it_needs(check, requires):
    finding = only(check(requires=requires), "error")
    assert "it does not say which axlearn-core it needs" in finding.what
    assert 'write "axlearn-core>=0.1,<0.2" under dependencies' in finding.fix


@pytest.mark.parametrize(
    ("requirement", "missing"),
    [
        ("axlearn-core", "no lower bound and no upper bound"),
        ("axlearn-core>=0.1", "no upper bound"),
        ("axlearn-core<1", "no lower bound"),
    ],
)
def test_the_range_of_core_has_two_ends(check, requirement, missing):
    finding = only(check(requires=[requirement]), "warning")
    assert finding.what.endswith(f" has {missing}")


@pytest.mark.parametrize("requirement", ["axlearn-core~=0.1", "axlearn_core==0.1.*"])
def test_a_range_may_be_written_in_other_ways(check, requirement):
    assert check(requires=[requirement]) == ()


def test_another_core_is_an_error(check_alone):
    assert "it needs axlearn-core <0.1,>=0.0" in (
        only(check_alone(requires=["axlearn-core>=0.0,<0.1"]), "error").what
    )


def test_the_entry_point_is_called_like_the_distribution(check):
    finding = only(check(entry_point="parts"), "warning")
    assert finding.fix.startswith('write acme-parts = "acme_parts._plugin" in pyproject.toml')


def test_the_package_is_called_like_the_distribution(here, axlearn_install, site):
    axlearn_install("acme-parts", plugin=QUIET, requires=CORE)
    entry_points(site, "acme-parts", "other._plugin")
    (site / "acme_parts").rename(site / "other")
    finding = only(check_plugin("acme-parts"), "warning")
    assert finding.fix == "call the package acme_parts, or the distribution other"


def test_an_entry_point_without_its_module_is_a_stale_installation(here, axlearn_install, site):
    axlearn_install("acme-parts", requires=CORE)
    (site / "acme_parts/_plugin.py").unlink()
    finding = only(check_plugin("acme-parts"), "error")
    assert "its entry point names acme_parts._plugin, and there is no such module" in finding.what
    assert "install the plugin again (also an editable one" in finding.fix


def test_an_entry_point_that_is_no_module_is_shown(here, axlearn_install, site):
    axlearn_install("acme-parts", requires=CORE)
    entry_points(site, "acme-parts", "acme-parts/_plugin.py")
    errors = [f for f in check_plugin("acme-parts") if f.severity == "error"]
    assert "must be a module such as 'acme_norms._plugin', got 'acme-parts/_plugin.py'" in (
        only(errors, "error").what
    )


def entry_points(site, name, value, group="axlearn_core.plugins"):
    (info,) = site.glob(f"{name.replace('-', '_')}-*.dist-info")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")


def test_a_misspelt_group_is_shown_with_the_right_one(axlearn_install, site):
    axlearn_install("acme-parts", requires=CORE)
    entry_points(site, "acme-parts", "acme_parts._plugin", group="axlearn.plugins")
    finding = only(check_plugin("acme-parts"), "error")
    assert "its entry point is in the group 'axlearn.plugins', which axl does not" in finding.what
    assert '[project.entry-points."axlearn_core.plugins"]' in finding.fix
    assert "acme-parts" in all_plugins()


def test_a_distribution_that_is_no_plugin_is_told_so():
    finding = only(check_plugin("pytest"), "error")
    assert "it has no entry point in the group 'axlearn_core.plugins'" in finding.what
    assert "pytest" not in all_plugins()


def test_an_unknown_distribution_is_answered_with_near_names(axlearn_install):
    axlearn_install("acme-parts")
    with pytest.raises(PluginError, match=r"there is no plugin 'acme-part'. Did you mean 'acme-p"):
        check_plugin("acme-part")


def test_a_disabled_plugin_is_examined_when_it_is_named_and_only_then(check, monkeypatch):
    monkeypatch.setenv("AXLEARN_DISABLE_PLUGINS", "Acme_Parts")
    assert only(check(layer(summary="A norm")), "warning")
    assert "acme-parts" not in all_plugins()


def test_strict_mode_does_not_end_an_examination(check_alone, monkeypatch):
    monkeypatch.setenv("AXLEARN_STRICT_PLUGINS", "1")
    assert only(check_alone("1 / 0"), "error")


def test_a_name_is_taken_as_pip_takes_it(here, axlearn_install):
    axlearn_install("acme-parts", plugin=QUIET, requires=CORE)
    assert check_plugin("Acme_Parts") == ()


def test_core_itself_is_sound(here):
    assert check_plugin("axlearn-core") == ()
