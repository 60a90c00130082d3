"""The newest metrics over HTTP, for a Prometheus server to collect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axlearn_core.observe.writers import Kind, Writer, missing_package

_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


class PrometheusWriter(Writer):
    """Serves the newest values at `http://HOST:PORT/metrics` while the run goes on.

    `axlearn_loss{kind="train", run="a"} 0.82` is a value, and `axlearn_step` the step of each
    kind's newest. What lies behind a slash becomes the label `of`: evaluations give
    `axlearn_loss{kind="eval", of="held_out"}`. Prometheus keeps the history.

    Attributes:
        port: that is served, which the system chose if the config's is 0.
    """

    class Config(Writer.Config):
        port: int = 9464  # 0: any that is free
        host: str = "127.0.0.1"  # whoever can reach it reads all metrics; "0.0.0.0": the network

    def open(self, directory: Path, *, after_step: int) -> None:
        try:
            import prometheus_client
        except ImportError:
            raise missing_package("prometheus") from None
        cfg = self.config
        self._client: Any = prometheus_client
        self._registry: Any = prometheus_client.CollectorRegistry()
        self._gauges: dict[str, Any] = {}
        self._run = directory.absolute().name
        self._server, self._thread = prometheus_client.start_http_server(
            cfg.port, addr=cfg.host, registry=self._registry
        )
        self.port: int = self._server.server_port
        self._set("step", "train", "", after_step)

    def write(self, step: int, kind: Kind, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            of, _, short = name.partition("/") if kind == "eval" else ("", "", name)
            self._set(short, kind, of, value)
        self._set("step", kind, "", step)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _set(self, name: str, kind: Kind, of: str, value: float) -> None:
        metric = "axlearn_" + _NOT_A_NAME.sub("_", name)
        if metric not in self._gauges:
            self._gauges[metric] = self._client.Gauge(
                metric, f"{name} of a run.", ["kind", "of", "run"], registry=self._registry
            )
        self._gauges[metric].labels(kind, of, self._run).set(value)
