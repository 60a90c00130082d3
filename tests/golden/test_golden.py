"""Every experiment's config and parameters are those of its golden file.

`experiments/NAME.txt` holds canonical text, which omits what equals its default, then one line for
each parameter. `defaults.txt` holds the defaults of the components in use, which those texts rely
on; a field that it lacks is new and changes nothing. `nox -s golden` runs this file as a program,
which rewrites them.
"""

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path

import pytest

from axlearn_core.config import (
    REQUIRED,
    ConfigBase,
    Configurable,
    find,
    format_value,
    replace,
    to_text,
)
from axlearn_core.module import Initializer, ParameterSpec, flatten_paths, parameter_count
from axlearn_core.plugins import get_registry
from axlearn_core.training import Trainer
from axlearn_layers import CausalLM
from axlearn_learners import AdamW

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "experiments"
DEFAULTS = Path(__file__).parent / "defaults.txt"
REMEDY = "If the change is meant: nox -s golden, and commit the files."
EXPERIMENTS = {
    each.name: get_registry().experiment(each.qualified_name)
    for each in get_registry().records("experiment")
    if each.distribution == "axlearn-experiments"
}


def golden(experiment: str) -> Path:
    return FOLDER / f"{experiment}.txt"


def text(cfg: Trainer.Config) -> str:
    """What an experiment's golden file holds."""
    specs = cfg.model.instantiate(name="model").parameter_specs()
    lines = sorted(f"{path}  {spec_text(spec)}" for path, spec in flatten_paths(specs).items())
    return f"{to_text(cfg)}\n# {parameter_count(specs):,} parameters\n" + "\n".join(lines) + "\n"


def spec_text(spec: ParameterSpec) -> str:
    """Writes shape, dtype, axes, initializer, then every other field that is not its default."""
    shown = ("shape", "axes", "initializer", "dtype")
    others = {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if field.name not in shown and getattr(spec, field.name) != field.default
    }
    axes = ", ".join(str(axis) for axis in spec.axes)
    words = [f"{name}={value}" for name, value in others.items()]
    start = initializer_text(spec.initializer)
    return " ".join([str(list(spec.shape)), spec.dtype, f"({axes})", start, *words])


def initializer_text(initializer: Initializer) -> str:
    if isinstance(initializer, Configurable):
        return component_text(initializer.config, qualified=False)
    return initializer.__qualname__


def component_text(cfg: ConfigBase, qualified: bool = True) -> str:
    """Writes canonical text in one line: `module.Class` or `module.Class(path=value, ...)`."""
    component, *lines = to_text(cfg).removeprefix("# ").splitlines()
    name = component if qualified else component.rpartition(".")[2]
    values = ", ".join(line.replace(": ", "=", 1) for line in lines)
    return f"{name}({values})" if values else name


def defaults(configs: Iterable[ConfigBase]) -> dict[str, str]:
    """Returns every default by `module.Class.field`, of the components that stand in the trees."""
    kinds = {type(node) for cfg in configs for _, node in find(cfg, ConfigBase)}
    return {
        f"{component_text(kind())}.{name}": (
            component_text(value) if isinstance(value, ConfigBase) else format_value(value)
        )
        for kind in kinds
        for name, value in kind().items()
        if value is not REQUIRED
    }


def default_lines(found: dict[str, str]) -> str:
    return "".join(f"{path}: {value}\n" for path, value in sorted(found.items()))


def changed_defaults(before: str, now: dict[str, str]) -> str:
    """Returns the differences to recorded lines, without the defaults that are new."""
    recorded = {line.partition(": ")[0] for line in before.splitlines()}
    known = {path: value for path, value in now.items() if path in recorded}
    return difference(before, default_lines(known), DEFAULTS)


def difference(before: str, after: str, path: Path) -> str:
    """Returns a unified diff, empty if nothing differs."""
    old, new, name = before.splitlines(), after.splitlines(), str(path.relative_to(ROOT))
    return "\n".join(difflib.unified_diff(old, new, name, "now", n=2, lineterm=""))


def rewrite() -> None:
    configs = {name: experiment() for name, experiment in EXPERIMENTS.items()}
    texts = {golden(name): text(cfg) for name, cfg in configs.items()}
    for path in set(FOLDER.glob("*.txt")) - texts.keys():
        path.unlink()
    for path, content in texts.items():
        path.write_text(content, encoding="utf-8", newline="\n")
    found = default_lines(defaults(configs.values()))
    DEFAULTS.write_text(found, encoding="utf-8", newline="\n")


def expect(holds: bool, otherwise: str) -> None:
    """Fails with nothing but a message: a diff reads better without pytest's view of it."""
    if not holds:
        pytest.fail(otherwise, pytrace=False)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_that_of_its_golden_file(name):
    path = golden(name)
    expect(path.exists(), f"{name} has no golden file: nox -s golden, and commit it.")
    changed = difference(path.read_text(encoding="utf-8"), text(EXPERIMENTS[name]()), path)
    expect(not changed, f"{name} has changed. {REMEDY}\n{changed}")


def test_every_golden_file_has_an_experiment():
    left = sorted({path.stem for path in FOLDER.glob("*.txt")} - EXPERIMENTS.keys())
    expect(not left, f"{', '.join(left)}: a golden file, but no experiment. {REMEDY}")


def test_defaults_are_those_recorded():
    now = defaults(experiment() for experiment in EXPERIMENTS.values())
    changed = changed_defaults(DEFAULTS.read_text(encoding="utf-8"), now)
    expect(not changed, f"Defaults have changed, for all who rely on them. {REMEDY}\n{changed}")


def edited(later: type[Configurable]) -> type[Configurable]:
    """Gives a subclass its parent's name, as if the parent's source had been edited."""
    (before,) = later.__bases__
    later.__module__, later.__qualname__ = before.__module__, before.__qualname__
    return later


def test_a_new_field_with_a_default_changes_no_golden_file():
    @edited
    class Later(CausalLM):
        class Config(CausalLM.Config):
            new_option: bool = False

    configs = [experiment() for experiment in EXPERIMENTS.values()]
    texts, lines = [text(cfg) for cfg in configs], default_lines(defaults(configs))
    for cfg in configs:
        replace(cfg, CausalLM, Later.default_config())
        assert cfg.model.new_option is False
    assert [text(cfg) for cfg in configs] == texts
    assert changed_defaults(lines, defaults(configs)) == ""


def test_a_changed_default_shows_old_and_new_though_canonical_text_omits_both():
    @edited
    class Later(AdamW):
        class Config(AdamW.Config):
            weight_decay: float = 0.25

    before, now = (defaults([kind.default_config()]) for kind in (AdamW, Later))
    changed = changed_defaults(default_lines(before), now).splitlines()[2:]
    path = "axlearn_learners.optimizers.AdamW.weight_decay"
    assert [line for line in changed if line[0] in "-+"] == [f"-{path}: 0.1", f"+{path}: 0.25"]


if __name__ == "__main__":
    rewrite()
