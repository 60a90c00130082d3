"""The manifests of a JobSet, against the models and schemas that Kubernetes publishes.

They come from PyPI: JobSet's own with kubeflow-trainer-api, those of Kubernetes with
kubernetes-validate.
"""

from pathlib import Path

import pytest
import yaml

from axlearn_core.config import ConfigError
from axlearn_core.launch import Job
from axlearn_core.launch.jobset import JobSet

JOB = Job("text.llama_7b", ("max_step=7",), Path("/shared/run"))
COMMON = {"image": "registry.example/axl", "queue": "research", "claim": "runs"}
TPUS = {"chip": "v5p", "topology": "4x4x4", "slices": 2, "spare_slices": 1}
KINDS = {
    "gpus": {"nodes": 4, "gpus_per_node": 8},
    "tpus": {**TPUS, "spare_priority": "idle", "priority": "high"},
}


def manifest(kind):
    return yaml.safe_load(JobSet.Config(**COMMON, **KINDS[kind]).instantiate().text(JOB))


@pytest.mark.parametrize("kind", KINDS)
def test_jobset_knows_every_field(kind):
    models = pytest.importorskip("kubeflow_trainer_api.models")
    read = models.JobsetV1alpha2JobSet.from_dict(manifest(kind))
    assert read.to_dict() == manifest(kind)  # what it does not know is lost on the way


@pytest.mark.parametrize("kind", KINDS)
def test_kubernetes_knows_every_field_of_the_jobs(kind):
    validator = pytest.importorskip("kubernetes_validate")
    for replicated in manifest(kind)["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
        validator.validate({**job, **replicated["template"]}, "1.34", strict=True)


def test_a_slice_has_a_pod_for_each_host_and_its_spare_waits_behind():
    train, spare = manifest("tpus")["spec"]["replicatedJobs"]
    assert (train["replicas"], spare["replicas"]) == (2, 1)
    for job in (train, spare):
        spec = job["template"]["spec"]
        assert spec["parallelism"] == spec["completions"] == 16  # 64 chips, 4 in a host
        pod = spec["template"]["spec"]
        assert pod["nodeSelector"] == {
            "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
            "cloud.google.com/gke-tpu-topology": "4x4x4",
        }
        (container,) = pod["containers"]
        assert container["resources"]["limits"] == {"google.com/tpu": "4"}
    assert manifest("tpus")["spec"]["successPolicy"]["targetReplicatedJobs"] == ["train"]


def test_gpu_pods_know_the_first_of_them():
    (train,) = manifest("gpus")["spec"]["replicatedJobs"]
    (container,) = train["template"]["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    expected = "text-llama-7b-train-0-0.text-llama-7b:8476"
    assert environment["AXLEARN_COORDINATOR"] == expected
    assert environment["AXLEARN_PROCESS_COUNT"] == "4"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"chip": "v9"}, "chip must be one of v4, v5e"),
        ({"chip": "v5p"}, "both a chip and a topology"),
        ({"chip": "v5p", "topology": "2x2x2", "spare_slices": 1}, "need spare_priority"),
    ],
)
def test_what_does_not_fit_is_said_when_it_is_built(fields, says):
    with pytest.raises(ConfigError, match=says):
        JobSet.Config(image="axl", **fields).instantiate()
