"""A JobSet of Kubernetes: slices of TPUs, or nodes of GPUs."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, Final

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.launch.contract import Job, Launcher, LaunchError

# GKE's node labels by chip, and the chips of one host:
# cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
_TPUS: Final = {
    "v4": ("tpu-v4-podslice", 4),
    "v5e": ("tpu-v5-lite-podslice", 4),
    "v5p": ("tpu-v5p-slice", 4),
    "v6e": ("tpu-v6e-slice", 4),
    "v7x": ("tpu7x", 4),
}
_COORDINATOR_PORT = 8476
_SPARE_IMAGE = "registry.k8s.io/pause:3.10"
_TRAIN = "train"
# Process 0 has started when it waits for the others; of those nothing can be asked from outside.
_PROBE = (
    "import os, socket; os.environ['AXLEARN_PROCESS_INDEX'] != '0' or "
    f"socket.create_connection(('localhost', {_COORDINATOR_PORT}), 5)"
)


class JobSet(Launcher):
    """Applies a manifest with kubectl. All of a JobSet starts again when one pod fails."""

    class Config(Launcher.Config):
        """Options of `axl launch jobset`.

        Attributes:
            image: the container, with axl in it.
            chip: v4, v5e, v5p, v6e or v7x; empty for GPUs.
            topology: of a slice of TPUs, such as 2x2x4.
            slices: how many of TPUs.
            nodes: how many of GPUs.
            gpus_per_node: how many.
            queue: of Kueue, which starts the job when there is room for all of it.
            spare_slices: held ready by pods of lower priority, for a slice that fails.
            spare_priority: the priority class of those pods.
            priority: the priority class of the job.
            restarts: how often to start again after a pod has failed.
            grace: seconds between SIGTERM and the end, in which the processes save.
            claim: the volume claim that holds the run, mounted at /shared.
            shared_memory: of each pod, for NCCL and for reading data, such as 64Gi.
            namespace: of the job.
        """

        image: str = REQUIRED
        chip: str = ""
        topology: str | None = None
        slices: int = 1
        nodes: int = 1
        gpus_per_node: int = 8
        queue: str | None = None
        spare_slices: int = 0
        spare_priority: str | None = None
        priority: str | None = None
        restarts: int = 10
        grace: int = 120
        claim: str | None = None
        shared_memory: str = "16Gi"
        namespace: str = "default"

    def __init__(self, config: Config):
        super().__init__(config)
        if config.chip and config.chip not in _TPUS:
            raise ConfigError(f"chip must be one of {', '.join(_TPUS)}, got {config.chip!r}")
        if bool(config.chip) != bool(config.topology):
            raise ConfigError("TPUs need both a chip and a topology, such as v5p and 2x2x4")
        if config.spare_slices and not (config.chip and config.spare_priority):
            raise ConfigError(
                "spare slices are of TPUs and need spare_priority, a priority class below that of "
                "the job, so that it takes their place"
            )

    def text(self, job: Job) -> str:
        return "\n".join(_yaml(self.manifest(job))) + "\n"

    def launch(self, job: Job) -> int:
        if shutil.which("kubectl") is None:
            raise LaunchError(
                "there is no kubectl here. Take --dry-run, which prints the manifest, and apply "
                "that where there is"
            )
        done = subprocess.run(
            ["kubectl", "apply", "-f", "-"], input=self.text(job), text=True, capture_output=True
        )
        if done.returncode:
            raise LaunchError(f"kubectl refused the job: {done.stderr.strip()}")
        print(done.stdout.strip())
        return 0

    def manifest(self, job: Job) -> dict[str, Any]:
        """Returns the JobSet as data."""
        cfg = self.config
        jobs = [self._replicated(_TRAIN, cfg.slices if cfg.chip else 1, self._pod(job))]
        if cfg.spare_slices:
            jobs.append(self._replicated("spare", cfg.spare_slices, self._spare_pod()))
        metadata: dict[str, Any] = {"name": job.name, "namespace": cfg.namespace}
        if cfg.queue:
            metadata["labels"] = {"kueue.x-k8s.io/queue-name": cfg.queue}
        if cfg.chip:  # no two slices of a job in one node pool, and no two jobs in one slice
            metadata["annotations"] = {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            }
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": metadata,
            "spec": {
                "failurePolicy": {"maxRestarts": cfg.restarts},
                "successPolicy": {"operator": "All", "targetReplicatedJobs": [_TRAIN]},
                "replicatedJobs": jobs,
            },
        }

    def _replicated(self, name: str, replicas: int, pod: dict[str, Any]) -> dict[str, Any]:
        hosts = self._hosts()
        # A training pod that fails starts the whole set again; a spare one waits for its place.
        limit = 0 if name == _TRAIN else 1_000_000
        spec = {
            "parallelism": hosts,
            "completions": hosts,
            "completionMode": "Indexed",
            "backoffLimit": limit,
            "template": {"spec": pod},
        }
        return {"name": name, "replicas": replicas, "template": {"spec": spec}}

    def _pod(self, job: Job) -> dict[str, Any]:
        cfg = self.config
        mounts = [{"name": "memory", "mountPath": "/dev/shm"}]
        memory = {"medium": "Memory", "sizeLimit": cfg.shared_memory}
        volumes: list[dict[str, Any]] = [{"name": "memory", "emptyDir": memory}]
        if cfg.claim:
            mounts.append({"name": "shared", "mountPath": "/shared"})
            volumes.append({"name": "shared", "persistentVolumeClaim": {"claimName": cfg.claim}})
        container = {
            "name": _TRAIN,
            "image": cfg.image,
            "command": ["axl", *job.words],
            "env": self._environment(job),
            "ports": [{"containerPort": _COORDINATOR_PORT, "protocol": "TCP"}],
            "resources": self._resources(),
            "volumeMounts": mounts,
        }
        if not cfg.chip:
            container["startupProbe"] = {
                "exec": {"command": ["python", "-c", _PROBE]},
                "periodSeconds": 10,
                "failureThreshold": 60,
            }
        return self._placed(container, cfg.priority) | {
            "terminationGracePeriodSeconds": cfg.grace,
            "volumes": volumes,
        }

    def _spare_pod(self) -> dict[str, Any]:
        container = {"name": "spare", "image": _SPARE_IMAGE, "resources": self._resources()}
        return self._placed(container, self.config.spare_priority)

    def _placed(self, container: dict[str, Any], priority: str | None) -> dict[str, Any]:
        cfg = self.config
        pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
        if priority:
            pod["priorityClassName"] = priority
        if cfg.chip:
            pod["nodeSelector"] = {
                "cloud.google.com/gke-tpu-accelerator": _TPUS[cfg.chip][0],
                "cloud.google.com/gke-tpu-topology": cfg.topology,
            }
        return pod

    def _resources(self) -> dict[str, Any]:
        cfg = self.config
        chips = min(_TPUS[cfg.chip][1], self._chips()) if cfg.chip else cfg.gpus_per_node
        name = "google.com/tpu" if cfg.chip else "nvidia.com/gpu"
        return {"limits": {name: str(chips)}}

    def _environment(self, job: Job) -> list[dict[str, Any]]:
        """On TPUs jax finds the others itself; GPU pods get what JobSet knows of them."""
        if self.config.chip:
            return []
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        first = f"{job.name}-{_TRAIN}-0-0.{job.name}"  # JobSet's name for the first pod
        return [
            {"name": "AXLEARN_COORDINATOR", "value": f"{first}:{_COORDINATOR_PORT}"},
            {"name": "AXLEARN_PROCESS_COUNT", "value": str(self.config.nodes)},
            {
                "name": "AXLEARN_PROCESS_INDEX",
                "valueFrom": {"fieldRef": {"fieldPath": index}},
            },
        ]

    def _hosts(self) -> int:
        cfg = self.config
        return -(-self._chips() // _TPUS[cfg.chip][1]) if cfg.chip else cfg.nodes

    def _chips(self) -> int:
        try:
            return math.prod(int(size) for size in (self.config.topology or "").split("x"))
        except ValueError:
            raise ConfigError(
                f"topology must be sizes, such as 2x2x4, got {self.config.topology!r}"
            ) from None


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Yields the lines of a value as YAML; texts are written as JSON, which YAML reads."""
    for key, inner in value.items() if isinstance(value, dict) else [("-", v) for v in value]:
        lead = f"{indent}{key}" if key == "-" else f"{indent}{json.dumps(key)}:"
        if isinstance(inner, (dict, list)) and inner:
            yield lead
            yield from _yaml(inner, f"{indent}  ")
        else:
            yield f"{lead} {json.dumps(inner)}"
