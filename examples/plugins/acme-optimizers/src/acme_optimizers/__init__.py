"""Cautious AdamW, and a cooldown for any schedule."""

from acme_optimizers.cautious import CautiousAdamW, cautious
from acme_optimizers.cooldown import SquareRootCooldown

__all__ = ["CautiousAdamW", "SquareRootCooldown", "cautious"]
