"""Brings a feature to all experiments, and says what that cost and whether it is right."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from axlearn_core.hardware import detect, load_mesh_rule, machine_name, select_mesh_rule
from axlearn_core.kernels import recording_choices
from axlearn_core.plugins import Registry
from axlearn_core.training import Trainer
from modularity import lines
from modularity.catalogue import SNIPPET, Feature, installed
from modularity.checks import Built, build, built_findings, config_findings, has_old
from modularity.evidence import Numbers, number_findings, numbers, trace
from modularity.experiments import Experiment


@dataclasses.dataclass
class Row:
    """What the meter says of one feature.

    Attributes:
        reached: experiments that it was brought to, of which `right` have no findings.
        without: experiments that have nothing for it to change.
        stepped: how many of those reached made a training step too.
        changed: definitions of the packages that are others in memory; the command adds the lines
            that git finds changed.
        findings: what is wrong, each with its experiment.
        ran: numbers of the snippet's lines that ran, by (model, variant).
    """

    feature: str
    title: str
    plugin_lines: int
    snippet_lines: int
    reached: int = 0
    right: int = 0
    without: int = 0
    stepped: int = 0
    changed: int = 0
    findings: list[str] = dataclasses.field(default_factory=list)
    ran: dict[tuple[str, str], set[int]] = dataclasses.field(default_factory=dict)

    def add(self, other: Row) -> None:
        """Adds what was measured with other experiments."""
        self.reached += other.reached
        self.right += other.right
        self.without += other.without
        self.stepped += other.stepped
        self.changed = max(self.changed, other.changed)
        self.findings += [finding for finding in other.findings if finding not in self.findings]
        for place, executed in other.ran.items():
            self.ran.setdefault(place, set()).update(executed)


class Baseline:
    """Experiments as they are without any feature; measure it before a plugin is imported."""

    def __init__(self, experiments: Sequence[Experiment], sample: Sequence[int] = ()):
        """Args: sample: of which experiments to take numbers, by their place."""
        self.experiments = experiments
        self.built: list[Built] = [build(experiment.config) for experiment in experiments]
        for built in self.built:
            jax.eval_shape(built.trainer.model.initialize, jax.random.key(0))
        self.numbers: dict[int, Numbers] = {i: numbers(self.built[i]) for i in sample}
        unsound = [experiments[i].name for i, taken in self.numbers.items() if not taken.finite]
        assert not unsound, f"the loss of {', '.join(unsound)} is not finite without any feature"


def measure(feature: Feature, baseline: Baseline, steps: Collection[int] = ()) -> Row:
    """Brings a feature to every experiment that has what it changes.

    Args:
        steps: places of experiments whose numbers the baseline holds, to compare with.
    """
    row = Row(feature.package, feature.title, feature.plugin_lines(), feature.snippet_lines())
    before = lines.definitions()
    with installed(feature) as registry:
        bring = _bring(feature, registry)
        having = [i for i, e in enumerate(baseline.experiments) if has_old(feature, e.config)]
        row.reached, row.without = len(having), len(baseline.experiments) - len(having)
        for index in having:
            experiment, old = baseline.experiments[index], baseline.built[index]
            found: list[str] = []
            with lines.tracing(feature.path) as executed:
                try:
                    config = bring(experiment.config.clone())
                    found += config_findings(feature, experiment.config, config)
                    new = build(config)
                except Exception as error:  # whatever it is, it belongs into the report
                    found.append(f"{type(error).__name__}: {error}")
            own = {line for file, line in executed if Path(file).name == SNIPPET}
            row.ran.setdefault((experiment.model, experiment.variant), set()).update(own)
            if not found:
                found += built_findings(feature, old, new)
                if feature.recomputes is not None:
                    found += _kernel_findings(feature, registry, new)
            if not found and index in steps:
                row.stepped += 1
                found += number_findings(feature, old, new, baseline.numbers[index], numbers(new))
            row.findings += [f"{experiment.name}: {finding}" for finding in found]
            row.right += not found
    patched = lines.patched(before, lines.definitions())
    row.changed = len(patched)
    row.findings += [f"in memory: {name} is another" for name in patched]
    row.findings += _public_only(feature)
    return row


def _bring(feature: Feature, registry: Registry) -> Callable[[Trainer.Config], Trainer.Config]:
    """Returns what makes an experiment one with the feature: its snippet, on its machine."""
    apply = feature.apply()
    if feature.host is None:
        return apply
    # As `axl train` does it there.
    hardware, probe, _ = detect(registry, dict([feature.host]))
    chip = hardware.chips[0]
    rule = select_mesh_rule(registry, machine_name(probe.platform, chip.name, probe.count))
    assert rule is not None, f"no mesh rule for {probe.description}"
    assert rule.distribution == feature.distribution, f"{rule.qualified_name} came first"
    modify: Any = load_mesh_rule(rule)
    return lambda config: modify(apply(config))


def _kernel_findings(feature: Feature, registry: Registry, built: Built) -> list[str]:
    """All attention runs on the feature's kernel; where it refuses, the reason is a finding."""
    with recording_choices() as choices:
        trace(built)
    ours = {c.qualified_name for c in registry.records("kernel")}
    ours = {name for name in ours if name.startswith(f"{feature.distribution}/")}
    attention = [choice for choice in choices if choice.op == "attention"]
    found = [f"kernel: {choice}" for choice in attention if choice.name not in ours]
    return found if attention else ["kernel: no attention was traced"]


def _public_only(feature: Feature) -> list[str]:
    return [
        f"{file.name} uses {name}, which is not public"
        for file in sorted(feature.path.glob("*.py"))
        for name in lines.private_names(file)
    ]


def growth(
    feature: Feature, models: Sequence[str], variants: Sequence[str], row: Row
) -> list[tuple[int, int, int]]:
    """Returns (n, m, lines of the snippet that the first n models with m variants need)."""
    always = _lines_outside(feature)
    grown = []
    for n in range(1, len(models) + 1):
        for m in range(1, len(variants) + 1):
            used = [row.ran.get((a, b), set()) for a in models[:n] for b in variants[:m]]
            grown.append((n, m, always + len(set().union(*used))))
    return grown


def _lines_outside(feature: Feature) -> int:
    """Counts the lines of a snippet that run once, on import."""
    source = (feature.path / SNIPPET).read_text(encoding="utf-8")
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            inside |= set(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines.code_lines(source) - inside)


def slopes(points: Sequence[tuple[int, int, int]]) -> tuple[float, float]:
    """Fits lines = a + b * models + c * variants by least squares; returns b and c."""
    table = np.array(points, np.float64)
    design = np.column_stack([np.ones(len(table)), table[:, :2]])
    _, b, c = np.linalg.lstsq(design, table[:, 2], rcond=None)[0]
    return round(float(b), 6) + 0.0, round(float(c), 6) + 0.0
