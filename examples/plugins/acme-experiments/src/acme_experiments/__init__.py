"""An experiment that composes the other plugins."""

from acme_experiments.sums import sums

__all__ = ["sums"]
