"""Metrics in Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from axlearn_core.observe.writers import Kind, Writer, missing_package, qualified


class WandbWriter(Writer):
    """Logs to Weights & Biases: a W&B run for each session, all in the group of the run's folder.

    W&B takes no value back, and a session that goes on from a checkpoint makes steps again. The
    config of each W&B run says after which step it began (`after_step`); the newest is right.
    """

    class Config(Writer.Config):
        project: str = "axlearn"
        entity: str | None = None  # a user or team; null: that of the account
        mode: Literal["online", "offline"] | None = None  # null: WANDB_MODE, or online
        tags: list[str] = []

    def open(self, directory: Path, *, after_step: int) -> None:
        try:
            import wandb
        except ImportError:
            raise missing_package("wandb") from None
        cfg = self.config
        name = directory.absolute().name
        self._run: Any = wandb.init(
            dir=directory,
            project=cfg.project,
            entity=cfg.entity,
            mode=cfg.mode,
            tags=cfg.tags,
            group=name,
            name=f"{name} after step {after_step}" if after_step else name,
            config={"directory": str(directory.absolute()), "after_step": after_step},
            reinit="create_new",
            # What is printed, the source and the machine are none of a writer's business.
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                x_disable_stats=True,
            ),
        )

    def write(self, step: int, kind: Kind, values: Mapping[str, float]) -> None:
        self._run.log({qualified(name, kind): value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()
