"""A hook of MkDocs: the site is made of the repository's files under the paths they have in it.

By itself MkDocs knows the files of docs/ alone, and every link that leaves it would lead nowhere.
Here pages lie anywhere, and a file of another kind that one links to becomes a page with its text.
So a link is the path of a file, and the same line works on a code host and in the site.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "docs/**/*.md", "packages/*/*.md", "benchmarks/**/*.md", "examples/**/*.md")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)#\s]+)")
AS_IT_IS = {".svg", ".png", ".css", ".js"}
SHOWN = """\
---
search: {{exclude: true}}
hide: [toc]
---

# {name}

~~~~~~{language} title="{path}" linenums="1"
{text}
~~~~~~
"""


class Shown(File):
    """A file that is no page, on a page of its own."""

    def is_documentation_page(self) -> bool:
        return True


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    theme = [file for file in files if file.src_dir != config.docs_dir]
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    targets = sorted({target for page in pages for target in linked(page)}.difference(pages))
    extra = [path for path in Path(__file__).parent.iterdir() if path.suffix in AS_IT_IS]
    found = [page_of(path, config) for path in pages]
    found += [shown(path, config) for path in (*targets, *extra)]
    return Files([*theme, *found])


def linked(page: Path) -> set[Path]:
    """Returns the files that a page links to."""
    links = LINK.finditer(page.read_text(encoding="utf-8"))
    targets = {(page.parent / link["target"]).resolve() for link in links}
    return {target for target in targets if target.is_file()}


def page_of(path: Path, config: MkDocsConfig) -> File:
    """Returns a Markdown page. Those in docs/ must have a place in the navigation."""
    uri = path.relative_to(ROOT).as_posix()
    where = uri.removeprefix("docs/")
    return File(
        uri,
        str(ROOT),
        config.site_dir,
        use_directory_urls=False,
        dest_uri=str(Path(where).with_suffix(".html")),
        inclusion=InclusionLevel.NOT_IN_NAV if where == uri else InclusionLevel.INCLUDED,
    )


def shown(path: Path, config: MkDocsConfig) -> File:
    """Returns an image or a style as it is, and any other file as a page with its text."""
    uri = path.relative_to(ROOT).as_posix()
    arguments = (uri, str(ROOT), config.site_dir, False)
    if path.suffix in AS_IT_IS:
        return File(*arguments, dest_uri=uri.removeprefix("docs/"))
    file = Shown(*arguments, dest_uri=f"{uri}.html", inclusion=InclusionLevel.NOT_IN_NAV)
    file.content_string = SHOWN.format(
        name=path.name,
        path=uri,
        language=path.suffix[1:] or "text",
        text=path.read_text(encoding="utf-8"),
    )
    return file
