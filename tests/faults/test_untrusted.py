"""Files and words from strangers: whatever they hold, our own errors come out, and nothing else.

`AXLEARN_FUZZ_EXAMPLES=100000 pytest tests/faults/test_untrusted.py` looks for longer than CI does.
"""

import contextlib
import copy
import json
import os
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axlearn_core.checkpoint import checkpoints, newest_intact
from axlearn_core.checkpoint.checkpointer import read_facts
from axlearn_core.checkpoint.manifest import damage
from axlearn_core.config import apply_overrides, from_json, to_json, to_text
from axlearn_core.config.overrides import paths
from axlearn_core.errors import UserError
from axlearn_core.guards.offence import load_batch, load_offence
from axlearn_core.plugins import get_registry
from axlearn_core.testing import faults
from axlearn_core.training import Trainer
from axlearn_core.training.run_directory import read_run
from axlearn_experiments.text import quickstart
from axlearn_huggingface.tokenizers import BytePairTrainer, HuggingFaceTokenizer
from axlearn_inputs.documents import Document
from axlearn_inputs.manifest import load_manifest
from axlearn_inputs.prepare import prepare
from axlearn_inputs.rows import decode_row
from axlearn_inputs.shards import ShardReader
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.tokenizers import SentencePieceTokenizer, SentencePieceTrainer

ROOT = Path(__file__).parents[2]
EXAMPLES = int(os.environ.get("AXLEARN_FUZZ_EXAMPLES", "60"))
MOST_MEMORY = 1 << 30  # bytes by which this process may grow

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 1000,
    database=None,
    suppress_health_check=list(HealthCheck),
)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["../../etc/passwd", "/dev/zero", "\0", "os:system", "$ref", "layers/linear"])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8)
            | st.sampled_from(
                ["$component", "$call", "$ref", "$tuple", "$dict", "$default", "$required"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
DEEP = [
    "[" * 100_000,
    '{"a":' * 100_000,
    "[" * 5000 + "]" * 5000,
    "9" * 10_000,
    '{"a": 1' + "0" * 5000,
]


@pytest.fixture(scope="module", autouse=True)
def memory_is_bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MOST_MEMORY


def places(tree, path=()):
    """Yields the way to every node of a tree of JSON."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def mutations(tree):
    """Texts that are almost that of a tree: a node exchanged, lost or added, bytes changed."""
    everywhere = list(places(tree))
    text = json.dumps(tree)

    @st.composite
    def mutated(draw):
        found = copy.deepcopy(tree)
        for _ in range(draw(st.integers(1, 3))):
            way = draw(st.sampled_from(everywhere))
            node = found
            try:
                for key in way[:-1]:
                    node = node[key]
                if not way:
                    found = draw(TREES)
                elif draw(st.booleans()):
                    node[way[-1]] = draw(TREES)
                else:
                    del node[way[-1]]
            except (KeyError, IndexError, TypeError):  # gone by a mutation before
                continue
        return json.dumps(found)

    @st.composite
    def edited(draw):
        start = draw(st.integers(0, len(text)))
        return text[:start] + draw(st.text(max_size=6)) + text[start + draw(st.integers(0, 9)) :]

    return mutated() | edited() | st.text(max_size=40) | st.sampled_from(DEEP)


REGISTRY = get_registry()
CONFIG = json.loads(to_json(quickstart(), REGISTRY))
TINY = faults.experiment()


@fuzz
@given(mutations(CONFIG))
def test_config_json(text):
    try:
        cfg = from_json(text, Trainer.Config, REGISTRY)
        to_text(cfg)
        cfg.model.instantiate(name="model").parameter_specs()
    except UserError:
        pass


PATHS = [path for path, _ in paths(quickstart())]
WORDS = st.tuples(
    st.sampled_from(PATHS)
    | st.text(st.sampled_from("abc.*[]{}()?+\\^$"), max_size=40)
    | st.text(max_size=20)
    | st.just("*a" * 200)
    | st.just("**." * 200 + "x"),
    st.just("=") | st.text(max_size=2),
    TREES.map(json.dumps) | st.text(max_size=30) | st.sampled_from(DEEP),
).map("".join)


@fuzz
@given(st.lists(WORDS, min_size=1, max_size=2))
def test_overrides(words):
    try:
        cfg = apply_overrides(quickstart(), words, resolve=REGISTRY.lookup)
        to_text(cfg)
    except UserError:
        pass


def read_letters(task, split, tokenizer):
    for number in range(20):
        text = "abcdefgh"[: 3 + number % 5] * 4
        yield Document(text, tokenizer.encode(text))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "letters"
    spec = PrepareSpec(task="letters", seq_len=16)
    prepare(spec, directory, report=lambda line: None, read=read_letters)
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two checkpoints, and a batch that was kept."""
    directory = tmp_path_factory.mktemp("run") / "run"
    cfg = faults.experiment().set(max_step=4, mesh_shape={"data": 1})
    cfg.checkpoint.every = 2
    cfg.input.nan_at = [2]
    cfg.guards.numbers.policy = "skip"
    cfg.instantiate().run(directory, experiment="tiny")
    return directory


def fuzzed(file, read):
    """Writes mutations into a file, and reads them in the way given; puts it back afterwards."""
    original = file.read_bytes()

    @fuzz
    @given(mutations(json.loads(original)))
    def look(text):
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(UserError):
            read()

    try:
        look()
    finally:
        file.write_bytes(original)


def test_data_manifest(data):
    def read():
        manifest = load_manifest(data)
        manifest.differences(PrepareSpec(task="letters", seq_len=16))
        for split in manifest.splits.values():
            split.fingerprint()
            ShardReader(data, split.shards).check_all()

    fuzzed(data / "manifest.json", read)


def test_checkpoint_manifest(run):
    def read():
        checkpoints(run, verify=True)
        newest_intact(run)

    fuzzed(run / "checkpoints/00000004/manifest.json", read)


def test_checkpoint_facts(run):
    folder = run / "checkpoints/00000004"
    fuzzed(folder / "run.json", lambda: read_facts(folder))


def test_record_of_a_run(run):
    fuzzed(run / "run.json", lambda: read_run(run))


def test_record_of_an_offence(run):
    fuzzed(run / "faults/00000003/offence.json", lambda: load_offence(run, 3))


def damaged(original):
    """Bytes that are almost those of a file."""

    @st.composite
    def edited(draw):
        content = bytearray(original)
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(content)))
            content[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
        return bytes(content)

    return (
        edited()
        | st.binary(max_size=60)
        | st.integers(0, len(original)).map(lambda n: original[:n])
    )


def test_batch_that_was_kept(run):
    file = run / "faults/00000003/batch.npz"
    original = file.read_bytes()

    @fuzz
    @given(damaged(original))
    def look(content):
        file.write_bytes(content)
        with contextlib.suppress(UserError):
            load_batch(run, 3)

    try:
        look()
    finally:
        file.write_bytes(original)


def test_tokenizer_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = ["the cat sat on the mat", "a dog and a cat"] * 5
    SentencePieceTrainer.Config(vocab_size=290).instantiate().train(texts, folder)
    file = folder / "tokenizer.model"
    original = file.read_bytes()

    @fuzz
    @given(damaged(original))
    def look(content):
        file.write_bytes(content)
        try:
            tokenizer = SentencePieceTokenizer.Config(path=str(file)).instantiate()
            tokenizer.decode(tokenizer.encode("the mat \u2581 é"))
        except UserError:
            pass

    look()


@pytest.fixture(scope="module")
def published_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    texts = ["the cat sat on the mat", "a dog and a cat"] * 5
    BytePairTrainer.Config(vocab_size=270).instantiate().train(texts, folder)
    return folder


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_files_of_a_published_tokenizer(published_tokenizer, name):
    def read():
        tokenizer = HuggingFaceTokenizer.Config(path=str(published_tokenizer)).instantiate()
        tokenizer.decode(tokenizer.encode("the mat \u2581 é <|endoftext|>"))
        tokenizer.encode_markup("the <|endoftext|>")
        with contextlib.suppress(NotImplementedError):  # of a decoder that tells no bytes
            tokenizer.pieces()

    fuzzed(published_tokenizer / name, read)


@fuzz
@given(
    st.binary(max_size=64)
    | st.lists(st.integers(0, 2**32 - 1), max_size=8).map(
        lambda words: np.array(words, "<u4").tobytes()
    )
)
def test_record_of_prepared_data(record):
    # A ValueError, which `RecordReader` makes an error of ours, with file and record.
    with contextlib.suppress(ValueError):
        decode_row(record, np.dtype("<u2"))


# No path leaves its folder.

OUTSIDE = ["../../secret", "/secret", "state/../../../secret", "..", "."]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_checkpoints_manifest_names_no_file_outside_of_it(run, name, monkeypatch):
    folder = run / "checkpoints/00000004"
    original = (folder / "manifest.json").read_text()
    facts = json.loads(original)
    facts["files"][name] = next(iter(facts["files"].values()))
    (folder / "manifest.json").write_text(json.dumps(facts))
    opened = []
    open_ = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened.append(self) or open_(self, *a, **k)
    )
    try:
        assert "not in this folder" in damage(folder)
    finally:
        (folder / "manifest.json").write_text(original)
    assert all(path.resolve().is_relative_to(folder) for path in opened)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_data_manifest_names_no_shard_outside_of_its_folder(data, tmp_path, name):
    copied = tmp_path / "deep/down/data"
    shutil.copytree(data, copied)
    facts = json.loads((copied / "manifest.json").read_text())
    facts["splits"]["train"]["shards"][0]["file"] = name
    (copied / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="not in this folder"):
        load_manifest(copied)


# No code comes out of files.

FORBIDDEN = re.compile(
    r"^\s*(import|from) (pickle|cloudpickle|dill|marshal|shelve|jsonpickle)\b"
    r"|allow_pickle=True|\byaml\.(unsafe_)?load\(|\btorch\.load\((?!.*weights_only=True)"
    r"|(?<![\w.])(eval|exec)\(|np\.load\((?!.*allow_pickle=False)",
    re.MULTILINE,
)


def test_nothing_in_the_packages_unpickles_or_evaluates_text():
    sources = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("examples/**/src/**/*.py")]
    assert len(sources) > 200
    # What the doctor's own child process tells it, through a folder of their own.
    sources.remove(ROOT / "packages/core/src/axlearn_core/testing/doctor/alone.py")
    found = [
        f"{path.relative_to(ROOT)}: {match.group().strip()}"
        for path in sources
        for match in FORBIDDEN.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found
