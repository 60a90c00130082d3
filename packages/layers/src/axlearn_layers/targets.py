"""The targets of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from axlearn_core.kernels import SoftTargets, Targets


def targets_of(batch: Mapping[str, jax.Array]) -> Targets:
    """Returns a batch's targets: soft ones if it holds target_probabilities."""
    ids, probabilities = batch["target_ids"], batch.get("target_probabilities")
    return ids if probabilities is None else SoftTargets(ids, probabilities)


def check_targets(targets: Targets, weights: jax.Array) -> None:
    """Raises a ValueError if the targets are not those of the tokens that are weighted."""
    if not isinstance(targets, SoftTargets):
        if targets.shape != weights.shape:
            raise ValueError(
                f"target ids of shape {targets.shape} must have the shape of the weights, "
                f"{weights.shape}; several ids per token need target_probabilities, of SoftTargets"
            )
    elif targets.ids.shape != targets.probabilities.shape or (
        targets.ids.shape[:-1] != weights.shape
    ):
        raise ValueError(
            f"soft targets need ids and probabilities of the shape [*{weights.shape}, k], "
            f"got {targets.ids.shape} and {targets.probabilities.shape}"
        )
