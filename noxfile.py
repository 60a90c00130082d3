"""How this repository is run and checked: every session is one small function.

nox                           all that a change has to pass
nox -s quickstart             learn a novel on this machine, then write some text
nox -s "tests(core)" -- -x    one package; words after -- go to the tool
nox -R -s types               once more, in the environment of last time

nox takes uv where it finds it, and pip where it does not.
"""

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
    everything(session)
    session.run("pytest", "tests/docs", *session.posargs)


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
def benchmarks(session: nox.Session) -> None:
    """Speed as ratios against hand-written JAX."""
    everything(session)
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(default=False)
def modularity(session: nox.Session) -> None:
    """Lines of existing code that eight features change in some 700 experiments."""
    everything(session)
    session.run("python", "benchmarks/modularity/run.py", *session.posargs)
