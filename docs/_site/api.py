"""A hook of MkDocs: a page for each package that the navigation names below docs/reference/api/.

These pages exist in the site only. mkdocstrings fills them from the sources, without importing any.
"""

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
FOLDER = "docs/reference/api"
PAGE = """\
# {package}

::: {package}
    options:
      filters: ["!^_", "!^({elsewhere})$"]
"""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for package in re.findall(rf"{FOLDER}/([\w.]+)\.md", str(config.nav)):
        file = File.generated(
            config,
            f"{FOLDER}/{package}.md",
            content=PAGE.format(package=package, elsewhere="|".join(borrowed(package))),
        )
        file.dest_uri = file.dest_uri.removeprefix("docs/")
        files.append(file)
    return files


def borrowed(package: str) -> list[str]:
    """Returns what a package re-exports of another, on whose page that stands."""
    (source,) = ROOT.glob(f"packages/*/src/{package.replace('.', '/')}/__init__.py")
    own = package.partition(".")[0]
    imports = (n for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, ast.ImportFrom))
    foreign = (node for node in imports if (node.module or "").partition(".")[0] != own)
    return [alias.asname or alias.name for node in foreign for alias in node.names]
