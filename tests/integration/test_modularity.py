"""The meter of lines of change on a sample, and that it finds what is wrong."""

import subprocess
import sys
import textwrap
from itertools import count
from pathlib import Path

import jax
import numpy as np
import pytest

from axlearn_core.module import flatten_paths, no_context
from axlearn_core.plugins import PluginError
from axlearn_layers import Norm, RMSNorm, TransformerBlock

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from modularity import lines
from modularity.catalogue import FEATURES, Feature
from modularity.checks import build
from modularity.evidence import Numbers, number_findings
from modularity.experiments import experiments
from modularity.meter import Baseline, growth, measure, slopes

MODELS = ("llama", "gpt-2", "deepseek-v3", "multi-token")
packages = (f"leaky_{number}" for number in count())

NORM = """
    from axlearn_layers import RMSNorm


    class Other(RMSNorm):
        pass
"""
EVERYWHERE = """
    from axlearn_core.config import replace
    from axlearn_layers import Norm
    from PACKAGE.component import Other

    def apply(cfg):
        replace(cfg, Norm, Other.default_config())
        return cfg
"""


@pytest.fixture(scope="module")
def samples():
    """24 experiments, in four parts with all stacks; numbers of the last part's first."""
    grid = list(experiments(MODELS))[1::5]
    return [Baseline(grid[part::4], sample=[0] if part == 3 else []) for part in range(4)]


@pytest.mark.parametrize("number", range(len(FEATURES)), ids=[f.package for f in FEATURES])
def test_a_feature_is_right_wherever_it_is_brought_to(samples, number):
    feature, sample = FEATURES[number], samples[number % 4]
    row = measure(feature, sample, steps=sample.numbers if number == 3 else [])
    assert row.findings == []
    assert row.changed == 0
    assert row.right == row.reached == 6 - row.without
    assert row.reached >= 3
    assert row.stepped == (number == 3)
    assert row.snippet_lines <= 10
    models = list(dict.fromkeys(experiment.model for experiment in sample.experiments))
    variants = list(dict.fromkeys(experiment.variant for experiment in sample.experiments))
    assert slopes(growth(feature, models, variants, row)) == (0.0, 0.0)


# Features that leak, and models.


@pytest.fixture
def leaky(tmp_path):
    """Writes a feature that replaces norms, or claims to."""

    def write(snippet=EVERYWHERE, component=NORM, **claims):
        package = next(packages)
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name, source in {
            "_plugin": "",
            "component": component,
            "snippet": snippet,
        }.items():
            text = textwrap.dedent(source).replace("PACKAGE", package)
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        claims = {"old": Norm, "new": "component:Other", "folder": tmp_path} | claims
        return Feature(package, "another norm", **claims)

    return write


def llamas(block=None):
    """Experiments of one model, and optionally another block."""
    grid = [e for e in experiments(["llama"]) if (e.variant, e.stack)[0] == "grouped_query"][1:2]
    if block is not None:
        stack = grid[0].config.model.stack
        stack.layer = block.default_config().set(
            attention=stack.layer.attention, feed_forward=stack.layer.feed_forward
        )
    return grid


class HardCodedNorm(TransformerBlock):
    """Asks its config for neither of its norms."""

    def _add_norm(self, name):
        return self.add_child(name, RMSNorm.default_config().set(input_dim=self.config.input_dim))


class KeysByNumber(TransformerBlock):
    """Takes its keys from how many parameters there are, so that one more moves all others."""

    @no_context
    def initialize(self, key):
        specs = flatten_paths(self.parameter_specs())
        keys = jax.random.split(jax.random.fold_in(key, len(specs)), len(specs))
        state = {}
        for (path, spec), one in zip(specs.items(), keys, strict=True):
            *parents, name = path.split("/")
            below = state
            for parent in parents:
                below = below.setdefault(parent, {})
            below[name] = spec.initializer(one, spec)
        return state


def test_a_clean_feature_of_the_same_kind_has_no_findings(leaky):
    row = measure(leaky(), Baseline(llamas()))
    assert (row.findings, row.right, row.reached) == ([], 1, 1)


def test_a_layer_that_hard_codes_its_child_is_found(leaky):
    row = measure(leaky(), Baseline(llamas(HardCodedNorm)))
    assert row.right == 0
    assert sorted(finding.partition(": ")[2] for finding in row.findings) == [
        "built: old RMSNorm at trainer.model.stack.layer.attention_norm",
        "built: old RMSNorm at trainer.model.stack.layer.feed_forward_norm",
    ]


def test_an_old_node_that_stays_is_found(leaky):
    snippet = """
        from PACKAGE.component import Other

        def apply(cfg):
            cfg.model.norm = Other.default_config()
            return cfg
    """
    row = measure(leaky(snippet), Baseline(llamas()))
    assert row.right == 0
    assert any("config: old Norm left at model.stack.layer.norm" in f for f in row.findings)
    assert any("config: 2 places had it, 1 have the new one" in f for f in row.findings)


def test_a_snippet_that_changes_something_else_is_found(leaky):
    snippet = EVERYWHERE.replace("return cfg", "return cfg.set(seed=1)")
    row = measure(leaky(snippet), Baseline(llamas()))
    assert [f.partition(": ")[2] for f in row.findings] == ["config: changed elsewhere, at seed"]


def test_a_layer_that_moves_the_random_keys_of_its_siblings_is_found():
    (experiment,) = llamas(KeysByNumber)
    (feature,) = (f for f in FEATURES if f.package == "dynamic_tanh")
    sys.path.append(str(feature.folder))
    try:
        after = feature.apply()(experiment.config.clone())
    finally:
        sys.path.remove(str(feature.folder))
    builts = [build(experiment.config), build(after)]
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles in half the time of threefry
    starts = [jax.jit(built.trainer.model.initialize)(key) for built in builts]
    old, new = (
        Numbers(jax.tree.map(np.asarray, flatten_paths(start)), {}, loss, True)
        for start, loss in zip(starts, (1.0, 2.0), strict=True)
    )
    findings = number_findings(feature, *builts, old, new)
    assert "numbers: stack/layer/feed_forward/down/weight starts otherwise" in findings
    assert not any("embedding" in finding for finding in findings)


def test_a_feature_that_does_not_build_is_found(leaky):
    component = NORM.replace("pass", "class Config(RMSNorm.Config):\n            size: int")
    row = measure(leaky(component=component), Baseline(llamas()))
    assert row.right == 0
    assert "MissingFieldsError" in row.findings[0]


def test_a_plugin_that_patches_a_class_of_ours_is_found(leaky, monkeypatch):
    monkeypatch.setattr(RMSNorm, "forward", RMSNorm.forward)  # puts it back afterwards
    component = NORM + "\n\n    RMSNorm.forward = lambda self, x: x\n"
    row = measure(leaky(component=component), Baseline(llamas()))
    assert row.changed == 1
    assert row.findings == ["in memory: axlearn_layers.norms.RMSNorm.forward is another"]


def test_a_plugin_that_uses_what_is_not_public_is_found(leaky):
    component = NORM.replace("import RMSNorm", "import RMSNorm\n    from jax._src import core")
    row = measure(leaky(component=component), Baseline(llamas()))
    assert row.findings == ["component.py uses _src, which is not public"]


def test_a_broken_plugin_is_not_measured(leaky):
    feature = leaky()
    (feature.path / "_plugin.py").write_text("import no_such_module")
    with pytest.raises(PluginError, match="no_such_module"):
        measure(feature, Baseline(llamas()))


def test_a_snippet_that_knows_its_models_costs_more_with_each_of_them(leaky):
    snippet = """
        from axlearn_core.config import replace
        from axlearn_layers import Norm
        from PACKAGE.component import Other

        def apply(cfg):
            if cfg.model.positions is None:
                replace(cfg, Norm, Other.default_config())
            else:
                replace(cfg, Norm, Other.default_config())
            return cfg
    """
    feature = leaky(snippet)
    grid = [next(e for e in experiments([model]) if e.stack == "repeated") for model in MODELS[:2]]
    row = measure(feature, Baseline(grid))
    points = growth(feature, MODELS[:2], ["grouped_query"], row)
    assert points == [(1, 1, 7), (2, 1, 8)]
    assert slopes([*points, (1, 2, 7), (2, 2, 8)]) == (1.0, 0.0)


# Lines.


def test_blank_lines_comments_and_docstrings_are_no_lines_of_code(tmp_path):
    source = (
        '"""Says."""\n\n# why\nx = [\n    1,  # one\n]\n\ndef f():\n    "What."\n    return x\n'
    )
    (tmp_path / "file.py").write_text(source)
    assert lines.count(tmp_path / "file.py") == 5


def test_git_counts_changed_and_new_lines_below_a_folder_only(tmp_path):
    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    def write(name, text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    git("init")
    write("packages/old.py", "a\nb\n")
    git("add", ".")
    git("commit", "-m", "one")
    assert lines.changed_lines(root=tmp_path) == 0
    write("feature/new.py", "x\n")
    assert lines.changed_lines(root=tmp_path) == 0
    write("packages/old.py", "a\nc\n")  # one line less, one more
    write("packages/new.py", "x\ny\nz\n")
    assert lines.changed_lines(root=tmp_path) == 5
    git("add", ".")
    git("commit", "-m", "two")
    assert lines.changed_lines(root=tmp_path) == 0
    assert lines.changed_along_with(tmp_path / "feature", root=tmp_path) == 5
