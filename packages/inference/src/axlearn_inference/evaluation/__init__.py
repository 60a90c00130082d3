"""Scores of a model: of given texts, and on the tasks of the lm-evaluation-harness."""

from axlearn_inference.evaluation.scoring import Score, score

__all__ = ["Score", "score"]
