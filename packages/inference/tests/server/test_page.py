"""The chat page, in a browser."""

import importlib.util
from pathlib import Path

import pytest

from axlearn_inference.server.options import Options

# Tests are no package: a file beside this one is loaded by its path.
_spec = importlib.util.spec_from_file_location("chromium", Path(__file__).with_name("chromium.py"))
chromium = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chromium)

pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None, reason=f"none of {', '.join(chromium.NAMES)} is on the PATH"
)

MARKUP = "<img src=x onerror=document.title='broken'> & <b>bold</b>\n  two"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    page = chromium.Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


def ask(page, text):
    page.run(f"document.getElementById('text').value = {text!r}")
    page.run("document.getElementById('send').click()")


def answered(page):
    page.until("!document.getElementById('send').hidden && !document.querySelector('.busy')")
    return page.run("document.querySelector('#log p:last-child')?.textContent")


def test_an_answer_is_shown_as_text_and_the_conversation_goes_on(page, start):
    with start(text=MARKUP) as server:
        page.open(server.url)
        page.until("document.title === 'tiny'")
        page.run("document.getElementById('system').value = 'Be brief.'")
        page.run("document.getElementById('temperature').value = 0.3")
        ask(page, "<i>Hi</i>")
        assert answered(page) == MARKUP
        ask(page, "And?")
        assert answered(page) == MARKUP
        assert page.run("document.title") == "tiny"
        assert page.run("document.querySelectorAll('#log img, #log b, #log i').length") == 0
    assert server.script.prompts[1] == (
        f"system\nBe brief.\nuser\n<i>Hi</i>\nassistant\n{MARKUP}\nuser\nAnd?\nassistant\n"
    )
    assert server.script.asked[0].sampling.temperature == 0.3


def test_text_streams_and_stops_at_the_button(page, start):
    with start(text="word " * 80, pause=0.02) as server:
        page.open(server.url)
        page.until("document.title === 'tiny'")
        ask(page, "Go on")
        page.until("document.querySelector('.busy')?.textContent.length > 10")
        assert page.run("document.getElementById('log').getAttribute('aria-busy')") == "true"
        page.run("document.getElementById('stop').click()")
        shown = answered(page)
        assert 10 < len(shown) < 400
        assert page.run("document.getElementById('status').textContent") == "Stopped."
    assert server.stats().running == 0


def test_errors_are_shown_and_the_text_can_be_sent_again(page, start):
    with start() as server:
        page.open(server.url)
        page.until("document.title === 'tiny'")
        ask(page, "a" * 600)
        answered(page)
        assert "holds 512 of prompt" in page.run("document.getElementById('status').textContent")
        assert page.run("document.getElementById('text').value.length") == 600


def test_a_key_is_asked_for(page, start):
    with start(options=Options(api_key="secret")) as server:
        page.open(server.url)
        page.until("!document.getElementById('settings').hidden")
        page.run(
            "key = document.getElementById('key'); key.value = 'secret';"
            "key.dispatchEvent(new Event('change'))"
        )
        page.until("document.title === 'tiny'")


def test_a_model_without_a_template_continues_text(page, start):
    with start(text=" and so on", template=None) as server:
        page.open(server.url)
        page.until("document.title === 'tiny'")
        ask(page, "Call me")
        assert answered(page) == " and so on"
    assert server.script.prompts == ["Call me"]


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_window_and_everything_has_a_name(page, server, width):
    server.script.text = "unbreakable" * 30 + "\n" + "line\n" * 60
    page.open(server.url, width=width, height=667, phone=width < 500)
    page.until("document.title === 'tiny'")
    ask(page, "x" * 200)
    answered(page)
    page.run("document.getElementById('toggle').click()")
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run("document.documentElement.scrollHeight") == 667  # the log scrolls, not the page
    assert page.run("document.getElementById('send').getBoundingClientRect().bottom") <= 667
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "slider", "spinbutton", "combobox", "log"}
    named = [
        (node["role"]["value"], node["name"]["value"])
        for node in nodes
        if node.get("role", {}).get("value") in roles and not node["ignored"]
    ]
    assert len(named) >= 7
    assert [role for role, name in named if not name] == []


def test_the_page_asks_nobody_but_its_server(page, server):
    page.events.clear()
    page.open(server.url)
    page.until("document.title === 'tiny'")
    urls = [
        event["params"]["request"]["url"]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert urls and all(url.startswith(f"{server.url}/") for url in urls)
    complaints = [e for e in page.events if e.get("method") == "Log.entryAdded"]
    assert [e["params"]["entry"]["text"] for e in complaints] == []
    blocked = "fetch('https://example.com').then(() => 'sent', () => 'blocked')"
    assert page.run(blocked) == "blocked"
