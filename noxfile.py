"""How this repository is run and checked: every session is one small function.

nox                           all that a change has to pass
nox -s quickstart             learn a novel on this machine, then write some text
nox -s "tests(core)" -- -x    one package; words after -- go to the tool
nox -R -s types               once more, in the environment of last time

nox takes uv where it finds it, and pip where it does not.
"""

import json
import shutil
import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"

ROOT = Path(__file__).parent
PACKAGES = ("core", "layers", "learners", "inputs", "hardware-tpu", "hardware-gpu", "experiments")


def editable(*packages: str) -> list[str]:
    """Arguments that install packages from their folders.

    Siblings belong into one command line, because no index has them.
    """
    return [word for package in packages for word in ("-e", f"./packages/{package}")]


def siblings(package: str) -> list[str]:
    """The packages of this repository that one needs, directly or through others."""
    found = [package]
    for each in found:  # which grows on the way
        project = tomllib.loads((ROOT / f"packages/{each}/pyproject.toml").read_text())["project"]
        needed = {Requirement(line).name for line in project["dependencies"]}
        found += [p for p in PACKAGES if f"axlearn-{p}" in needed and p not in found]
    return found[1:]


def everything(session: nox.Session, *tools: str) -> None:
    """Install all packages with what their tests need."""
    session.install(*editable(*(f"{package}[test]" for package in PACKAGES)), *tools)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and who may import whom."""
    session.install("ruff", "import-linter")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    sources = ":".join(f"packages/{package}/src" for package in PACKAGES)
    session.run("lint-imports", "--no-cache", "--no-logo", env={"PYTHONPATH": sources})


@nox.session
def types(session: nox.Session) -> None:
    """Strict types in all packages."""
    everything(session, "mypy")
    session.run("mypy", *session.posargs)


@nox.session
@nox.parametrize("package", [nox.param(package, id=package) for package in PACKAGES])
def tests(session: nox.Session, package: str) -> None:
    """One package's tests, beside nothing but what it declares."""
    session.install(*editable(f"{package}[test]", *siblings(package)))
    session.run("pytest", f"packages/{package}/tests", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """All packages together, on 8 virtual devices; experiments and defaults are as recorded."""
    everything(session)
    session.run("pytest", "tests/integration", "tests/golden", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the code blocks of README and docs, and follow their links."""
    everything(session, "equinox", "flax")  # the cookbook wraps their layers
    # One device, as readers have. Eight virtual ones that reduce several things at once need more
    # threads than few cores give them, and XLA then waits for itself.
    one_device = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    session.run("pytest", "tests/docs", *session.posargs, env=one_device)


@nox.session
def site(session: nox.Session) -> None:
    """The docs as a web site in build/site, which needs no network to be read."""
    session.install("mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1,<2", "ruff")
    quiet = {"NO_MKDOCS_2_WARNING": "1"}  # what Material says of MkDocs' future at every build
    session.run("mkdocs", "build", "--strict", "--quiet", *session.posargs, env=quiet)


@nox.session
def import_time(session: nox.Session) -> None:
    """Start-up: what it must not import, and how long it takes."""
    everything(session)
    session.run("pytest", "tests/import_time", *session.posargs)


# virtualenv and thus pip, since uv on Linux answers torch with gigabytes of CUDA libraries.
@nox.session(venv_backend="virtualenv")
def parity(session: nox.Session) -> None:
    """Logits, gradients and files of the model families equal those of transformers."""
    tools = ("torch==2.13.0", "transformers>=5", "safetensors")
    session.install(*tools, *editable("experiments[test]", *siblings("experiments")))
    session.run("pytest", "tests/parity", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Source distribution and wheel of every package, into dist/."""
    session.install("build", "hatchling")
    shutil.rmtree("dist", ignore_errors=True)
    for package in PACKAGES:
        where = ("--outdir", "dist", f"packages/{package}")
        session.run("python", "-m", "build", "--no-isolation", *where, silent=True)


@nox.session(requires=["build"])
def wheels(session: nox.Session) -> None:
    """Install the built wheels together and train 20 steps from an empty directory."""
    session.install(*(str(wheel) for wheel in ROOT.glob("dist/*.whl")))
    session.chdir(session.create_tmp())
    session.run("axl", "data", "prepare", "text.quickstart")
    session.run("axl", "train", "text.quickstart", "max_step=20", "--dir", "runs/wheels")


@nox.session(requires=["build"])
def examples(session: nox.Session) -> None:
    """The plugins of examples/ beside built wheels: their tests, then a model of all of them."""
    shutil.rmtree(folder := Path(session.create_tmp()).resolve())
    (folder / "empty").mkdir(parents=True)
    plugins = sorted(path.parent for path in ROOT.glob("examples/plugins/*/pyproject.toml"))
    session.install("hatchling")
    for plugin in plugins:
        with session.chdir(plugin):
            session.run("hatchling", "build", "-t", "wheel", "-d", str(folder), silent=True)
    made = [f"{wheel}[test]" for wheel in folder.glob("*.whl")]
    session.install(*(str(wheel) for wheel in ROOT.glob("dist/*.whl")), *made)
    for plugin in plugins:
        session.run("pytest", str(plugin / "tests"))
    session.chdir(folder / "empty")
    session.run("axl", "plugins", env={"AXLEARN_STRICT_PLUGINS": "1"})
    session.run("axl", "train", "sums.tiny", "--dir", "runs/sums")
    records = map(json.loads, Path("runs/sums/metrics.jsonl").read_text().splitlines())
    losses = [record["loss"] for record in records if "loss" in record]
    if losses[-1] > 0.1 * losses[0]:
        session.error(f"sums.tiny should learn to add, but its losses were {losses}")


@nox.session(default=False, reuse_venv=True)
def quickstart(session: nox.Session) -> None:
    """Prepare a novel, train on it for three minutes, write some text."""
    session.install(*editable(*PACKAGES))
    session.run("axl", "data", "prepare", "text.quickstart")
    session.run("axl", "train", "text.quickstart", *session.posargs, "--dir", "runs/quickstart")
    session.run("axl", "generate", "runs/quickstart")


@nox.session(default=False)
def golden(session: nox.Session) -> None:
    """Record the experiments and the defaults as they are now."""
    everything(session)
    session.run("python", "tests/golden/test_golden.py")


@nox.session(default=False)
def reference(session: nox.Session) -> None:
    """Write the hook reference anew from the specifications."""
    session.install(*editable("core[test]"))
    session.run("python", "tests/docs/test_hook_page.py")


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """Speed as ratios against hand-written JAX."""
    everything(session)
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(default=False)
def modularity(session: nox.Session) -> None:
    """Lines of existing code that eight features change in some 700 experiments."""
    everything(session)
    session.run("python", "benchmarks/modularity/run.py", *session.posargs)
