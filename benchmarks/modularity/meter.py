"""Brings a feature to all experiments, and says what that cost and whether it is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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
from modularity.experiments import Experiment
from modularity.numbers import Numbers, number_findings, numbers, trace

CHIPS = 8


@dataclasses.dataclass
class Row:
    """What the meter says of one feature.

    Attributes:
        reached: experiments that it was brought to, of which `right` have no findings.
        without: experiments that have nothing for it to change.
        stepped: how many of those reached made a training step too.
        changed: lines below packages/ that git finds changed, now and in the commits that added
            the feature, and definitions of the packages that are others in memory.
        findings: what is wrong, each with its experiment.
        ran: lines of the snippet that some experiment ran, by number of models and of variants.
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
    ran: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)

    @property
    def slopes(self) -> tuple[float, float]:
        """Lines for each further model, and for each further variant."""
        return slopes(self.ran)


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


def measure(feature: Feature, baseline: Baseline, *, steps: int, root: Path = lines.ROOT) -> Row:
    """Brings a feature to every experiment that has what it changes.

    Args:
        steps: how many of the baseline's numbers to compare with.
    """
    row = Row(feature.package, feature.title, feature.plugin_lines(), feature.snippet_lines())
    before = lines.definitions()
    ran: dict[tuple[str, str], set[int]] = {}
    with installed(feature) as registry:
        bring = _bring(feature, registry)
        having = [i for i, e in enumerate(baseline.experiments) if has_old(feature, e.config)]
        row.reached, row.without = len(having), len(baseline.experiments) - len(having)
        sampled = _spread([i for i in having if i in baseline.numbers], steps, feature.package)
        for index in having:
            experiment, old = baseline.experiments[index], baseline.built[index]
            with lines.tracing(feature.path) as executed:
                config = bring(experiment.config.clone())
            own = {line for file, line in executed if Path(file).name == SNIPPET}
            ran.setdefault((experiment.model, experiment.variant), set()).update(own)
            found = config_findings(feature, experiment.config, config)
            new = build(config)
            found += built_findings(feature, old, new)
            if feature.recomputes is not None:
                found += _kernel_findings(feature, registry, new)
            if index in sampled:
                row.stepped += 1
                found += number_findings(feature, old, new, baseline.numbers[index], numbers(new))
            row.findings += [f"{experiment.name}: {finding}" for finding in found]
            row.right += not found
    patched = lines.patched(before, lines.definitions())
    row.changed = len(patched) + lines.changed_lines(root=root)
    row.findings += [f"in memory: {name} is another" for name in patched]
    row.findings += _public_only(feature)
    row.ran = _growth(baseline.experiments, ran, _always(feature))
    return row


def _bring(feature: Feature, registry: Registry) -> Callable[[Trainer.Config], Trainer.Config]:
    """Returns what makes an experiment one with the feature: its snippet, on its machine."""
    apply = feature.apply()
    if not feature.sets:
        return apply
    # As `axl train` does it on a host with these chips.
    hardware, probe, _ = detect(registry, {"ACME_CHIPS": str(CHIPS)})
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


def _spread(places: list[int], count: int, name: str) -> set[int]:
    """Returns up to `count` places far from one another, others for another feature."""
    if not places or not count:
        return set()
    start, stride = sum(name.encode()), max(len(places) // count, 1)
    return {places[(start + i * stride) % len(places)] for i in range(min(count, len(places)))}


def _always(feature: Feature) -> int:
    """Counts the lines of the snippet outside of its function: they run once, on import."""
    source = (feature.path / SNIPPET).read_text(encoding="utf-8")
    code = compile(source, SNIPPET, "exec")
    inside: set[int] = set()
    for constant in code.co_consts:
        if hasattr(constant, "co_lines"):
            inside |= {line for _, _, line in constant.co_lines() if line} - {
                constant.co_firstlineno
            }
    return len(lines.code_lines(source) - inside)


def _growth(
    experiments: Sequence[Experiment], ran: dict[tuple[str, str], set[int]], always: int
) -> list[tuple[int, int, int]]:
    """Returns (models, variants, lines) for the first so many of each."""
    models = list(dict.fromkeys(experiment.model for experiment in experiments))
    variants = list(dict.fromkeys(experiment.variant for experiment in experiments))
    grown = []
    for n in range(1, len(models) + 1):
        for m in range(1, len(variants) + 1):
            used = [ran.get((a, b), set()) for a in models[:n] for b in variants[:m]]
            grown.append((n, m, always + len(set().union(*used))))
    return grown


def slopes(ran: Sequence[tuple[int, int, int]]) -> tuple[float, float]:
    """Fits lines = a + b * models + c * variants by least squares; returns b and c."""
    points = np.array(ran, np.float64)
    design = np.column_stack([np.ones(len(points)), points[:, 0], points[:, 1]])
    _, b, c = np.linalg.lstsq(design, points[:, 2], rcond=None)[0]
    return round(float(b), 6) + 0.0, round(float(c), 6) + 0.0
