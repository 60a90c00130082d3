"""`axl data prepare` of experiments: their config says what to prepare and where."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from axlearn_core.config import REQUIRED, Configurable
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry
from axlearn_core.training.input import Input
from axlearn_inputs import JsonLines, LengthFilter, Parquet, cli, tokenizer_cli
from axlearn_inputs.packed import PackedInput
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.synthetic import SyntheticInput


class Experiment(Configurable):
    class Config(Configurable.Config):
        input: Input.Config = REQUIRED
        eval_input: Input.Config = REQUIRED


def packed(directory: str, **fields) -> PackedInput.Config:
    source = PrepareSpec(task="letters", seq_len=16).set(**fields)
    return PackedInput.Config(source=source, directory=directory)


@pytest.fixture
def run(monkeypatch):
    """Runs the command with one installed experiment, `exp`; returns what it would prepare."""

    def run(experiment: Experiment.Config, *words: str):
        real, named_exp = get_registry(), SimpleNamespace(name="exp")
        registry = SimpleNamespace(
            load=real.load,
            resolve=lambda name: [SimpleNamespace(kind="experiment")] if name == "exp" else [],
            experiment=lambda name: lambda: experiment,
            records=lambda kind: real.records(kind) if kind == "tokenizer" else [named_exp],
            tokenizer=real.tokenizer,
            lookup=None,
        )
        monkeypatch.setattr(cli, "get_registry", lambda: registry)
        jobs = []
        monkeypatch.setattr(
            cli, "prepare_data", lambda spec, where, **_: jobs.append((where, spec))
        )
        monkeypatch.setattr(cli, "_summary", lambda manifest, where: "")
        result = CliRunner().invoke(cli.data, ["prepare", *words])
        if isinstance(result.exception, UserError):
            raise result.exception
        return jobs, result.output

    return run


def test_inputs_with_one_directory_are_prepared_once(run):
    experiment = Experiment.Config(input=packed("a"), eval_input=packed("a"))
    jobs, output = run(experiment, "exp", "**.source.seq_len=32")
    assert [(where, spec.seq_len) for where, spec in jobs] == [("a", 32)]
    assert "next: axl train exp **.source.seq_len=32" in output


def test_inputs_with_other_directories_are_prepared_each(run):
    jobs, _ = run(Experiment.Config(input=packed("a"), eval_input=packed("b", seq_len=8)), "exp")
    assert [(where, spec.seq_len) for where, spec in jobs] == [("a", 16), ("b", 8)]


def test_two_sources_in_one_directory_are_refused(run):
    experiment = Experiment.Config(input=packed("a"), eval_input=packed("a", seq_len=8))
    with pytest.raises(UserError, match=r"eval_input\.source is not the source of another"):
        run(experiment, "exp")


def test_an_experiment_without_prepared_data_is_told_so(run):
    synthetic = SyntheticInput.Config(vocab_size=8, seq_len=4)
    with pytest.raises(UserError, match="exp reads no prepared data"):
        run(Experiment.Config(input=synthetic, eval_input=synthetic), "exp")


def test_options_of_tasks_are_refused_for_experiments(run):
    experiment = Experiment.Config(input=packed("a"), eval_input=packed("a"))
    assert "write PATH=VALUE instead" in run(experiment, "exp", "--seq-len", "8")[1]


def test_overrides_are_refused_for_tasks(run):
    assert "there is none named 'letters'" in run(Experiment.Config(), "letters", "seq_len=8")[1]


def test_an_unknown_name_is_refused_with_near_ones(run):
    with pytest.raises(
        UserError, match=r"neither an experiment nor .* 'expp'\. Did you mean 'exp'"
    ):
        run(Experiment.Config(), "expp")


def test_a_vocabulary_size_is_refused_for_bytes(run):
    output = run(Experiment.Config(), "moby_dick", "--vocab-size", "99")[1]
    assert "--vocab-size is for a tokenizer that is to be trained" in output


@pytest.mark.parametrize(
    ("pattern", "source", "splits", "folder"),
    [
        ("corpus/{split}-*.jsonl.gz", JsonLines, ("train", "validation"), "corpus"),
        ("books-*.parquet", Parquet, ("train",), "books"),
    ],
)
def test_files_are_read_by_how_they_end(run, pattern, source, splits, folder):
    jobs, _ = run(Experiment.Config(), pattern, "--filter", "length", "--seq-len", "8")
    ((where, spec),) = jobs
    assert spec.task == source.Config(files=(pattern,))
    assert (where, spec.splits) == (f"prepared/{folder}", splits)
    assert spec.filters == {"length": LengthFilter.default_config()}


def test_a_filter_that_is_none_is_refused(run):
    output = run(Experiment.Config(), "books.txt", "--filter", "best-fit")[1]
    assert "--filter best-fit: it is no filter of documents" in output


# axl tokenizer train


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "the whale, the sea and 1851 ships. "
    (tmp_path / "notes.md").write_text(words * 20)
    (tmp_path / "more.jsonl").write_text('{"text": "a white whale"}\n' * 5)

    def train(*words: str):
        done = CliRunner().invoke(tokenizer_cli.tokenizer, ["train", *words, "--out", "tok"])
        return str(done.exception) if isinstance(done.exception, UserError) else done.output

    return train


def test_a_tokenizer_is_trained_on_files_and_named_by_its_folder(train, run):
    words = ("notes.md", "more.jsonl", "--vocab-size", "280", "--kind", "sentencepiece")
    output = train(*words)
    assert "wrote tok: 280 tokens" in output and "--tokenizer tok" in output
    jobs, _ = run(Experiment.Config(), "more.jsonl", "--tokenizer", "tok")
    tokenizer = jobs[0][1].tokenizer.instantiate()
    assert tokenizer.decode(tokenizer.encode("1851 whales")) == "1851 whales"
    assert "tok holds something already" in train(*words)


def test_what_cannot_be_trained_is_explained(train):
    words = ("--vocab-size", "300", "--kind", "sentencepiece")
    assert "neither a file nor a bundled task 'moby'" in train("moby", *words)
    assert "has no field 'chatml'" in train("notes.md", *words, "--chatml")


def test_data_are_prepared_with_a_registered_trainer(run):
    words = ("--tokenizer", "inputs/sentencepiece", "--vocab-size", "512")
    jobs, _ = run(Experiment.Config(), "books.txt", *words)
    assert jobs[0][1].tokenizer.vocab_size == 512
