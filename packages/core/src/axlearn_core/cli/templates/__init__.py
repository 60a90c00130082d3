"""What `axl plugin new` writes: files with `$name` and its like where plugins differ."""

from axlearn_core.cli.templates.rendering import TEMPLATES, Project, render

__all__ = ["TEMPLATES", "Project", "render"]
