"""docs/reference/hooks.md says what the specifications say.

python tests/docs/test_hook_page.py    # or nox -s reference: writes the page anew
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from axlearn_core.plugins import Record
from axlearn_core.plugins.hookspecs import ROLES
from axlearn_core.plugins.reference import (
    Field,
    HookReference,
    described_fields,
    hook_references,
    role_text,
)

PAGE = Path(__file__).parents[2] / "docs/reference/hooks.md"
COMMON_FIELDS = described_fields(Record)
INTRODUCTION = """\
# Hooks

All that a plugin can implement. `axl hooks` lists the hooks with the plugins that implement them,
`axl hooks NAME` prints what stands here about one. How a plugin is made: [plugins](../plugins.md).

<!-- Written by `nox -s reference` from the specifications in axlearn_core.plugins.hookspecs. -->
"""


def page() -> str:
    """Returns the whole reference."""
    return "\n".join([INTRODUCTION, *overview(), *(line for role in ROLES for line in part(role))])


def overview() -> Iterator[str]:
    yield "| hook | |\n| --- | --- |"
    for hook in hook_references().values():
        yield f"| [`{hook.name}`](#{hook.name}) | {hook.headline} |"
    yield ""


def part(role: str) -> Iterator[str]:
    """What all hooks of a role have in common, then each."""
    title, _, rest = role_text(role).summary.removesuffix(".").partition(": ")
    common = role_text(role).facts
    yield f"## {title}\n"
    if rest:
        yield f"{rest[0].upper()}{rest[1:]}.\n"
    yield from facts(common)
    if role == "provide":
        yield from fields("every record", COMMON_FIELDS)
    for hook in hook_references().values():
        if hook.role == role:
            yield from entry(hook, common)


def entry(hook: HookReference, common: dict[str, str]) -> Iterator[str]:
    yield f"### {hook.name}\n\n{hook.summary}\n\n```text\n{hook.signature}\n```\n"
    if hook.deprecation:
        yield f"**{hook.deprecation}.**\n"
    yield from facts({k: fact for k, fact in hook.facts.items() if common.get(k) != fact})
    own = [field for field in hook.fields if field not in COMMON_FIELDS]
    if hook.record and own:
        yield from fields(f"`{hook.record.__name__}`", own)
    yield f"```python\n{hook.example}\n```\n"


def fields(owner: str, told: Iterable[Field]) -> Iterator[str]:
    yield f"| field of {owner} | type | |\n| --- | --- | --- |"
    yield from (f"| `{field.name}` | `{field.type}` | {field.meaning} |" for field in told)
    yield ""


def facts(told: dict[str, str]) -> Iterator[str]:
    yield from (f"* **{label}:** {fact}" for label, fact in told.items())
    yield ""


def test_the_page_is_that_of_the_specifications():
    assert PAGE.read_text(encoding="utf-8") == page(), "nox -s reference writes it anew"


def test_a_hook_has_an_entry_with_signature_fields_and_example():
    hook = hook_references()["axlearn_kernels"]
    (shown,) = [text for text in page().split("\n### ") if text.startswith(hook.name)]
    assert f"```text\n{hook.signature}\n```" in shown
    assert f"```python\n{hook.example}\n```" in shown
    assert "| `op` | `str` |" in shown and "**Read by:** every trace" in shown


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
