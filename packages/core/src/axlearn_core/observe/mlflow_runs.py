"""Metrics in MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axlearn_core.observe.writers import Kind, Writer, missing_package, qualified


class MlflowWriter(Writer):
    """Logs to MLflow: an MLflow run for each session, named after the run's folder.

    MLflow takes no value back, and a session that goes on from a checkpoint makes steps again. The
    tags of each MLflow run say of which `directory` it is and after which step it began
    (`after_step`); the newest is right.
    """

    class Config(Writer.Config):
        experiment: str = "axlearn"  # of MLflow, created if it is not there
        # Such as "sqlite:////shared/mlflow.db" or "http://host:5000"; null: MLFLOW_TRACKING_URI, or
        # what MLflow uses without it, which is a database in the working directory.
        tracking_uri: str | None = None

    def open(self, directory: Path, *, after_step: int) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric
        except ImportError:
            raise missing_package("mlflow") from None
        cfg = self.config
        self._metric = Metric
        self._client: Any = MlflowClient(tracking_uri=cfg.tracking_uri)
        found = self._client.get_experiment_by_name(cfg.experiment)
        experiment = (
            found.experiment_id if found else self._client.create_experiment(cfg.experiment)
        )
        where = directory.absolute()
        tags = {"directory": str(where), "after_step": str(after_step)}
        run = self._client.create_run(experiment, run_name=where.name, tags=tags)
        self._run_id: str = run.info.run_id
        self._under_way: list[Any] = []

    def write(self, step: int, kind: Kind, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(qualified(n, kind), v, now, step) for n, v in values.items()]
        sent = self._client.log_batch(self._run_id, metrics, synchronous=False)
        self._under_way.append(sent)

    def flush(self) -> None:
        while self._under_way:
            self._under_way.pop(0).wait()

    def close(self) -> None:
        self.flush()
        self._client.set_terminated(self._run_id)
