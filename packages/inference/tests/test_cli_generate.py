"""axl generate: from a run's directory to text."""

import io
import json
import sys
from typing import NamedTuple

import jax
import pytest

import axlearn_core._plugin
import axlearn_inference._plugin
from axlearn_core.cli.main import main
from axlearn_core.testing import tiny
from axlearn_core.testing.registries import isolated_registry

EXPERIMENT = "axlearn_core.testing.tiny:experiment"


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run_axl(*words):
    plugins = {"axlearn_core": axlearn_core._plugin, "axlearn_inference": axlearn_inference._plugin}
    with isolated_registry(**plugins):
        return main([str(word) for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has learned the alphabet."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    words = ("checkpoint.every=10", f"compile_cache={directory.parent / 'compiled'}")
    assert run_axl("train", EXPERIMENT, "--dir", directory, *words) == 0
    return directory


@pytest.fixture
def generate(run, capfd):
    def generate(*words):
        code = run_axl("generate", run, *words)
        return Done(code, *capfd.readouterr())

    return generate


def lines(done):
    assert done.code == 0, done
    return [json.loads(line) for line in done.out.splitlines()]


def test_it_says_the_alphabet(generate):
    done = generate("abc", "--temperature", 0, "--max-tokens", 30)
    assert done.out == "abcdefghijklmnopqrstuvwxyzabcdefg\n"
    assert "step 20 of" in done.err
    assert "first of 30 tokens after" in done.err


def test_the_same_seed_writes_the_same_text_and_another_one_does_not(generate):
    def text(seed):
        return generate("a", "--seed", seed, "--temperature", 3, "--max-tokens", 50).out

    assert text(1) == text(1) != text(2)


def test_several_texts_have_seeds_that_follow_each_other(generate):
    words = ("a", "--temperature", 3, "--max-tokens", 20)
    alone = [generate(*words, "--seed", seed).out for seed in (5, 6)]
    assert generate(*words, "--seed", 5, "--n", 2).out == "".join(alone)


def test_a_prompt_comes_from_standard_input(generate, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"xy")))
    assert generate("-", "--temperature", 0, "--max-tokens", 3).out == "xyzab\n"


def test_ids_are_continued_with_ids(generate):
    done = generate("--ids", "0,1,2", "--temperature", 0, "--max-tokens", 3, "max_step=30")
    assert done.out.split() == ["3", "4", "5"]


def test_json_is_a_line_for_each_text(generate):
    words = ("a", "--max-tokens", 3, "--top-k", 1, "--n", 2, "--logprobs", 2, "--json")
    first, second = lines(generate(*words))
    assert (first["text"], first["ids"], first["finish"]) == ("bcd", [1, 2, 3], "length")
    assert second == first
    told = first["logprobs"][0]
    assert told["id"] == told["top"][0][0] == 1
    assert told["logprob"] == told["top"][0][1] < 0


def test_a_stop_string_ends_the_text(generate):
    (found,) = lines(generate("a", "--temperature", 0, "--stop", "ef", "--json"))
    assert (found["text"], found["finish"]) == ("bcd", "stop")


def test_a_draft_changes_nothing_but_how_fast_a_greedy_text_comes(run, generate):
    words = ("a", "--temperature", 0, "--stop", "wx", "--logprobs", 1, "--json")
    found = generate(*words, "--draft", run, "--draft-tokens", 3)
    assert lines(found)[0]["text"] == "bcdefghijklmnopqrstuv"
    assert "the draft was right 100% of the time: 4.00 tokens a step" in found.err


def test_log_probabilities_are_shown_as_a_table(generate):
    out = generate("a", "--temperature", 0, "--max-tokens", 2, "--logprobs", 1).out
    assert out.splitlines()[0] == "abc"
    assert out.splitlines()[1].split() == ["TOKEN", "LOGPROB", "LIKELIEST"]
    assert out.splitlines()[2].split()[0] == "'b'"


def test_beams_are_searched(generate):
    found = lines(generate("a", "--beam", 3, "--n", 2, "--max-tokens", 4, "--json"))
    assert found[0]["text"] == "bcde"
    assert found[0]["score"] > found[1]["score"]
    assert generate("a", "--beam", 2, "--max-tokens", 4).out == "abcde\n"


@pytest.mark.parametrize("draft", ["lookup", "the run itself"])
def test_a_draft_changes_no_greedy_text_and_is_judged(generate, run, draft):
    words = ("ab", "--temperature", 0, "--max-tokens", 12)
    done = generate(*words, "--draft", run if draft == "the run itself" else draft)
    assert done.out == "abcdefghijklmn\n"
    assert "the draft was right" in done.err and "tokens a step" in done.err


@pytest.fixture
def ending(monkeypatch):
    """The last letter ends a text, since constrained texts must be able to end."""
    monkeypatch.setattr(tiny.Letters, "end_ids", (25,))


@pytest.mark.parametrize(
    ("option", "constraint"),
    [("--regex", "(cat|dog)s?"), ("--grammar", 'start: ("cat" | "dog") "s"?')],
)
def test_a_constraint_is_kept(generate, tmp_path, ending, option, constraint):
    if option == "--grammar":
        (tmp_path / "pets.lark").write_text(constraint)
        constraint = tmp_path / "pets.lark"
    (found,) = lines(generate("a", option, constraint, "--temperature", 3, "--json"))
    assert found["text"] in ("cat", "cats", "dog", "dogs") and found["finish"] == "stop"


def test_a_schema_is_kept(generate, tmp_path, ending):
    (tmp_path / "schema.json").write_text('{"type": "boolean"}')
    (found,) = lines(generate("a", "--json-schema", tmp_path / "schema.json", "--json"))
    assert found["text"] in ("true", "false")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("json-schema", '{"type": ', "the JSON schema is no JSON"),
        ("json-schema", '{"type": "letter"}', "the JSON schema cannot be used"),
        ("grammar", "start: (", "the grammar cannot be used"),
    ],
)
def test_a_constraint_that_is_none_is_explained(generate, tmp_path, ending, name, content, message):
    (tmp_path / "file").write_text(content)
    done = generate("a", f"--{name}", tmp_path / "file")
    assert done.code == 1 and message in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a", "--draft", "nowhere"), "there is no directory nowhere"),
        (("a", "--beam", 2, "--draft", "lookup"), "--beam goes without --draft"),
        (("a", "--regex", "[", "--grammar", __file__), "give one of --regex and --grammar"),
        (("a", 'mesh_shape={"model": 16}'), "needs 16 devices, and there are 8"),
        (("a", 'mesh_shape={"modle": 1}'), "Did you mean 'model'?"),
        (("a", "--beam", 2, "--top-k", 3), "leave --top-k out"),
        (("a", "--beam", 2, "--n", 3), "need as many beams"),
        (("--ids", "a,b"), "--ids must be numbers"),
        (("--ids", "26"), "ids must be from 0 to 25"),
        ((), "give a prompt"),
        (("a", "--step", 7), "holds no complete checkpoint of step 7"),
        (("a", "max_stp=1"), "Did you mean 'max_step'?"),
        (("a", "--top-p", 2), "top_p (=2.0) must be above 0"),
        (("a", "--dtype", "int3"), "dtype"),
    ],
)
def test_what_cannot_be_generated_is_explained(generate, words, message):
    done = generate(*words)
    assert done.code == 1
    assert message in done.err


def test_an_input_without_a_tokenizer_offers_ids(generate, monkeypatch):
    monkeypatch.setattr(tiny.Counting, "tokenizer", lambda self: None)
    done = generate("abc")
    assert done.code == 1
    assert "run has no tokenizer; give token ids" in done.err


def test_a_run_of_eight_devices_generates_on_one(generate):
    assert len(jax.devices()) == 8
    assert generate("a", "--max-tokens", 1).code == 0
