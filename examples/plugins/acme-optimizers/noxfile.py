"""`nox` runs what a change has to pass; words after -- go to pytest."""

import nox

nox.options.default_venv_backend = "uv|virtualenv"


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, beside nothing but what pyproject.toml declares."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)
