"""What `axl watch` and `axl report` show of a run's directory."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from axlearn_core.cli.main import main
from axlearn_core.cli.report_page import page
from axlearn_core.cli.watch_view import frame
from axlearn_core.observe.history import RunReader


@pytest.fixture
def axl(capsys):
    def axl(*words, code=0):
        assert main([str(word) for word in words]) == code
        return "".join(capsys.readouterr())

    return axl


def picture(*runs, width=80, height=30, now):
    console = Console(width=width)
    with console.capture() as captured:
        console.print(frame([RunReader(run.path).read() for run in runs], width, height, now))
    return captured.get()


def page_of(*runs):
    return page([RunReader(run.path).read() for run in runs], now=0.0)


class Elements(HTMLParser):
    """Collects elements and checks that each is closed by its own end."""

    empty = ("meta", "input", "rect", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.empty:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def data_of(text):
    (block,) = re.findall(r'<script type="application/json" id="curves">(.*?)</script>', text)
    return json.loads(block)


def test_once_prints_the_state_the_speed_the_goodput_and_the_events(axl, run):
    shown = axl("watch", "--once", run.path)
    for text in (
        *("text.small  completed", "40/40  100%", "loss 1.0000", "tok/s 1k", "mfu 40%"),
        *("goodput", "lost work", "eval unseen  loss 1.2500 at step 40"),
        *("checkpoint damaged: step 30: a file is <truncated>", "session ended: completed"),
    ):
        assert text in shown


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(run, width):
    shown = picture(run, run, width=width, now=run.time).splitlines()
    assert max(map(len, shown)) <= width


def test_a_picture_of_one_run_fits_the_terminal(run):
    assert len(picture(run, height=24, now=run.time).splitlines()) <= 24


def test_a_running_run_says_when_it_will_be_done(recorded):
    run = recorded()
    run.facts(experiment="text.small", config={"max_step": "100"})
    run.event("session_started", 0)
    run.event("beat", 40)
    run.add("metrics", step=40, loss=1.0)
    run.add("performance", step=40, seconds_per_step=2.0, tokens_per_second=8.0)
    assert "eta 2:00" in picture(run, now=run.time)
    assert "eta" not in picture(run, now=run.time + 100)


def test_a_run_that_made_no_step_yet_is_no_error(recorded):
    run = recorded()
    run.facts(experiment="text.small", config={})
    assert "no step has been recorded yet" in picture(run, now=0.0)
    assert "No step has been recorded yet" in page_of(run)


@pytest.mark.parametrize("command", ["watch", "report"])
def test_a_wrong_directory_says_which_one_to_give(axl, run, tmp_path, command):
    assert "there is no directory" in axl(command, tmp_path / "nowhere", code=1)
    assert (
        f"holds no run (no run.json, metrics.jsonl or events.jsonl). Runs are in: {run.path}"
        in axl(command, tmp_path, code=1)
    )


def test_the_page_is_well_formed_and_loads_nothing(run):
    text = page_of(run)
    elements = Elements(text).found
    assert not re.search(r"https?:|@import|\bimport\(|fetch\(|url\((?!#)", text.replace(_SVG, ""))
    assert not any(
        {"src", "href", "srcset", "action"} & attributes.keys() for _, attributes in elements
    )
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


_SVG = "http://www.w3.org/2000/svg"  # the name of SVG's elements; nothing is loaded from there


def test_the_page_allows_its_own_script_and_no_other(run):
    text = page_of(run)
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "'><img src=x>", "a&b"])
def test_no_text_of_a_run_becomes_part_of_the_page(recorded, text):
    run = recorded()
    run.facts(experiment=text, config={text: text}, changes=[f"{text}: {text} -> {text}"])
    run.add("metrics", step=1, loss=1.0, **{text: 1.0})
    run.add("metrics", step=1, **{f"{text}/loss": 1.0, f"{text}/{text}": 1.0})
    run.event("session_started", 0, devices=text, host=text)
    run.event("fault", 1, kind=text, message=text)
    run.event("session_finished", 1, reason=f"failed: {text}")
    shown = page_of(run)
    elements = [tag for tag, _ in Elements(shown).found]
    assert "img" not in elements and elements.count("script") == 2
    assert text in [chart["title"] for chart in data_of(shown)["charts"]]


def test_the_page_holds_the_curves_and_the_faults(run):
    data = data_of(page_of(run))
    loss = data["charts"][0]
    assert loss["title"] == "loss, nats per token"
    train, unseen = loss["curves"]
    assert (train["steps"], train["values"]) == ([10, 20, 30, 40], [4.0, 3.0, 2.0, 1.0])
    assert (unseen["name"], unseen["values"]) == ("unseen", [1.25])
    assert data["runs"] == [{"label": "run", "faults": [20], "resumed": [20]}]


def test_a_value_that_is_not_finite_is_marked_and_named(recorded):
    run = recorded()
    run.add("metrics", step=1, loss=float("nan"))
    text = page_of(run)
    assert data_of(text)["charts"][0]["curves"][0]["values"] == [None]
    assert "<td class=number>nan</td>" in text


def test_the_numbers_can_be_read_without_a_script(run):
    text = re.sub(r"<script.*?</script>", "", page_of(run), flags=re.DOTALL)
    for cells in (
        *("<td class=number>10</td><td class=number>4</td>", "checkpoint damaged: step 30"),
        *("<td class=text>600</td><td class=text>40 (override 1: max_step=40)</td>",),
        *("<td>jax</td><td>0.10.2</td>", "<td>lost work</td>", "killed during step"),
    ):
        assert cells in text


def test_two_runs_share_axes_and_tell_their_differences(recorded, run):
    other = recorded("other")
    other.facts(experiment="text.small", config={"max_step": "40", "seed": "1"})
    other.add("metrics", step=10, loss=7.0)
    text = page_of(run, other)
    loss = data_of(text)["charts"][0]
    assert [(curve["run"], curve["colour"]) for curve in loss["curves"]] == [(0, "a"), (1, "b")]
    assert "<td class=path>seed</td><td class=text>0</td><td class=text>1</td>" in text
    assert "did not record it" in text


def test_long_runs_make_pages_of_bounded_size(recorded):
    run = recorded()
    with (run.path / "metrics.jsonl").open("w") as file:
        for step in range(20_000):
            file.write(f'{{"step": {step}, "loss": {step % 97}}}\n')
    assert len(page_of(run)) < 150_000


def test_report_saves_the_page(axl, run, tmp_path):
    assert f"saved {tmp_path / 'x.html'}" in axl("report", run.path, "--save", tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text(encoding="utf-8").startswith("<!doctype html>")
