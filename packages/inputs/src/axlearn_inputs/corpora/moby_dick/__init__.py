"""Moby Dick, by chapter."""

from axlearn_inputs.corpora.moby_dick.chapters import SPLITS, chapters, documents, is_held_out

__all__ = ["SPLITS", "chapters", "documents", "is_held_out"]
