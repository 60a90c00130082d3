"""Every component that core registers under its contract."""

import json
import os
import shlex
import struct
import time
import urllib.request
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tensorboardX.proto.event_pb2 import Event, SessionLog

from axlearn_core.kernels import (
    ContextAttentionSpec,
    LinearBias,
    QuantizedFormat,
    SoftTargets,
    attention,
    causal,
    cross_entropy,
    full,
    norm,
    quantized_matmul,
    ragged_matmul,
    same_segment,
    window,
)
from axlearn_core.launch.jobset import JobSet
from axlearn_core.launch.local import Local
from axlearn_core.launch.slurm import Slurm
from axlearn_core.module import Constant, FanIn, Normal
from axlearn_core.observe.mlflow_runs import MlflowWriter
from axlearn_core.observe.prometheus import PrometheusWriter
from axlearn_core.observe.weights_and_biases import WandbWriter
from axlearn_core.observe.writers import JsonlWriter, TensorBoardWriter
from axlearn_core.testing.contracts import (
    ConfigContract,
    HardwareContract,
    KernelContract,
    LauncherContract,
    WriterContract,
    check_coverage,
)
from axlearn_core.training.learner import Frozen

# Learners.


class TestFrozen(ConfigContract):
    def config(self):
        return Frozen.default_config()

    def build(self, config):
        return config.instantiate(specs={})

    def test_parameters_stay_as_they_are(self):
        params = {"a": jnp.ones(3)}
        made = self.build(self.config()).update({"a": jnp.full(3, 2.0)}, (), params, 0)
        assert made.params is params
        assert made.metrics["gradient_norm"] == pytest.approx(12**0.5)


# Initializers.


class TestConstant(ConfigContract):
    def config(self):
        return Constant.Config(value=0.5)


class TestNormal(ConfigContract):
    def config(self):
        return Normal.default_config()


class TestFanIn(ConfigContract):
    def config(self):
        return FanIn.default_config()


# Hardware.


class TestCPU(HardwareContract):
    name = "axlearn-core/cpu"

    def device_kinds(self):
        return {"cpu": "host", "cpu 2": None}


# Launchers.


class TestLocal(LauncherContract):
    def config(self):
        return Local.Config(processes=2, port=1234)

    def words(self, text):
        return [shlex.split(line) for line in text.splitlines()]


class TestSlurm(LauncherContract):
    def config(self):
        return Slurm.Config(nodes=2, gpus_per_node=4)

    def words(self, text):
        (line,) = [line for line in text.splitlines() if line.startswith("srun")]
        return [shlex.split(line.removesuffix("&"))]


class TestJobSet(LauncherContract):
    def config(self):
        return JobSet.Config(image="registry.example/axl", nodes=2, gpus_per_node=8)

    def words(self, text):
        (job,) = yaml.safe_load(text)["spec"]["replicatedJobs"]
        containers = job["template"]["spec"]["template"]["spec"]["containers"]
        return [container["command"] for container in containers]


# Kernels.


class OfAttention(KernelContract):
    def arrays(self, rng):
        shapes = [(2, 9, heads, 4) for heads in (4, 2, 2)]
        return [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    def cases(self, rng):
        q, k, v = self.arrays(rng)
        segments = np.repeat([[1] * 5 + [2] * (q.shape[1] - 5)], 2, axis=0)
        places = {"query_segments": segments, "key_segments": segments}
        sinks = rng.normal(size=4).astype(np.float32)
        bias = LinearBias((0.5, 0.25, 0.125, 0.0625))
        return {
            "causal": self.case(attention, q, k, v, mask=causal()),
            "every key": self.case(attention, q, k[:, :5], v[:, :5, :, :3], mask=full()),
            "packed": self.case(attention, q, k, v, mask=causal() & same_segment(), **places),
            "window, cap": self.case(attention, q, k, v, mask=causal() & window(3), logit_cap=5.0),
            "bias, sinks": self.case(attention, q, k, v, mask=causal(), bias=bias, sinks=sinks),
        }

    def placed(self, rng):
        q, k, v = self.arrays(rng)
        place = {"query_positions": np.array([[3], [7]]), "key_positions": np.arange(9)}
        return self.case(attention, q[:, :1], k, v, mask=causal(), **place)


class TestReferenceAttention(OfAttention):
    name = "axlearn-core/attention.reference"
    reference = "axlearn-core/attention.blocked"  # for one of its own, look in test_kernels_*


class TestBlockedAttention(OfAttention):
    name = "axlearn-core/attention.blocked"

    def refusals(self, rng):
        return {"positions are known only when running": self.placed(rng)}


class OfContextAttention(OfAttention):
    """A ring of one device: what it sends others is tested in test_kernels_split.py."""

    reference = "axlearn-core/attention.reference"

    def case(self, op, *arrays, **options):
        case = TestReferenceAttention().case(op, *arrays, **options)
        return case._replace(spec=ContextAttentionSpec(**vars(case.spec)))


class TestAllToAllAttention(OfContextAttention):
    name = "axlearn-core/context_attention.all_to_all"

    def refusals(self, rng):
        causal = self.cases(rng)["causal"]
        three = causal._replace(spec=replace(causal.spec, devices=3))
        return {"do not divide the 4 query heads": three}


class TestRingAttention(OfContextAttention):
    name = "axlearn-core/context_attention.ring"

    def arrays(self, rng):
        return [np.tile(x[:, :5], (1, 2, 1, 1)) for x in super().arrays(rng)]

    def cases(self, rng):
        every = super().cases(rng)
        return {name: every[name] for name in ("causal", "packed", "window, cap")}

    def refusals(self, rng):
        causal = self.cases(rng)["causal"]
        return {
            "positions are known only when running": self.placed(rng),
            "no gradients of biases and sinks": OfAttention.cases(self, rng)["bias, sinks"],
            "'cudnn' is asked for": causal._replace(spec=replace(causal.spec, kernel="cudnn")),
            "2 x 4 chunks": causal._replace(spec=replace(causal.spec, devices=4)),
        }


class OfRaggedMatmul(KernelContract):
    def of_groups(self, rng, *sizes, beyond=0):
        rows = rng.normal(size=(sum(sizes) + beyond, 5)).astype(np.float32)
        weights = rng.normal(size=(len(sizes), 5, 3)).astype(np.float32)
        return self.case(ragged_matmul, rows, weights, jnp.array(sizes))

    def cases(self, rng):
        return {
            "an empty group": self.of_groups(rng, 3, 0, 70),
            "rows of no group": self.of_groups(rng, 2, 5, beyond=3),
        }


class TestReferenceRaggedMatmul(OfRaggedMatmul):
    name = "axlearn-core/ragged_matmul.reference"
    reference = "axlearn-core/ragged_matmul.ragged_dot"


class TestXLARaggedMatmul(OfRaggedMatmul):
    name = "axlearn-core/ragged_matmul.ragged_dot"
    platform = "gpu"  # for which it is; a CPU computes the same, slowly

    def refusals(self, rng):
        return {"computes every row for every group": self.of_groups(rng, 2).on("cpu")}


class TestBlockedRaggedMatmul(OfRaggedMatmul):
    name = "axlearn-core/ragged_matmul.blocked"

    def refusals(self, rng):
        return {
            "are for cpus, this is gpu": self.of_groups(rng, 2).on("gpu"),
            "no rows": self.of_groups(rng, 0, 0),
        }


class OfQuantizedMatmul(KernelContract):
    def of(self, rng, *dtypes, **options):
        x, weight = rng.normal(size=(6, 2, 8)), rng.normal(size=(2, 8, 4))
        x, weight = x.astype(np.float32), weight.astype(np.float32)
        return self.case(
            quantized_matmul, x, weight, QuantizedFormat(*dtypes, **options), contracted=2
        )

    def cases(self, rng):
        return {
            "a scale per channel": self.of(rng, "int8", "int8"),
            "a scale per tensor": self.of(rng, "float8_e4m3fn", "float8_e5m2", scaling="tensor"),
        }


class TestReferenceQuantizedMatmul(OfQuantizedMatmul):
    name = "axlearn-core/quantized_matmul.reference"
    reference = "axlearn-core/quantized_matmul.native"


class TestNativeQuantizedMatmul(OfQuantizedMatmul):
    name = "axlearn-core/quantized_matmul.native"
    platform = "gpu"  # for which it is; a CPU computes the same, slowly

    def refusals(self, rng):
        return {"no units for products": self.of(rng, "int8", "int8").on("cpu")}


class OfNorm(KernelContract):
    def cases(self, rng):
        x = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
        vector, groups = x[0, 0, 0], x[0, 0]
        return {
            "rms": self.case(norm, x, vector, kind="rms", eps=1e-6),
            "layer": self.case(norm, x, vector, vector, kind="layer", eps=1e-5),
            "layer of groups": self.case(norm, x, groups, groups, kind="layer", eps=1e-5),
        }


class TestReferenceNorm(OfNorm):
    name = "axlearn-core/norm.reference"
    reference = "axlearn-core/norm.recomputed"  # against numpy in test_kernels_norm.py


class TestRecomputedNorm(OfNorm):
    name = "axlearn-core/norm.recomputed"


class OfCrossEntropy(KernelContract):
    def cases(self, rng):
        hidden = rng.normal(size=(2, 7, 5)).astype(np.float32)
        table = rng.normal(size=(11, 5)).astype(np.float32)
        ids = rng.integers(0, 11, (2, 7, 3))
        probabilities = rng.uniform(size=ids.shape).astype(np.float32)
        weights = np.float32(probabilities[..., 0] > 0.3)
        case = partial(self.case, cross_entropy, hidden, table, chunk_size=3)
        return {
            "one token": case(ids[..., 0], weights),
            "soft": case(SoftTargets(ids, probabilities), weights, label_smoothing=0.1),
            "z-loss, cap": case(ids[..., 0], weights, z_loss_scale=0.01, logit_cap=2.0),
        }


class TestReferenceCrossEntropy(OfCrossEntropy):
    name = "axlearn-core/cross_entropy.reference"
    reference = "axlearn-core/cross_entropy.chunked"  # which layers' test_invariants.py tests


class TestChunkedCrossEntropy(OfCrossEntropy):
    name = "axlearn-core/cross_entropy.chunked"


# Writers.


class TestJsonlWriter(WriterContract):
    def config(self):
        return JsonlWriter.default_config()

    def read(self, directory):
        lines = (directory / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return {
            (record["step"], name): value
            for record in records
            for name, value in record.items()
            if name != "step"
        }


class TestTensorBoardWriter(WriterContract):
    def config(self):
        return TensorBoardWriter.default_config()

    def read(self, directory):
        """As TensorBoard does: where a session starts, what came from its step on is dropped."""
        found = {}
        for event in self.events(directory / "tensorboard"):
            if event.session_log.status == SessionLog.START:
                found = {key: value for key, value in found.items() if key[0] < event.step}
            for value in event.summary.value:
                name = value.tag.removeprefix("train/")
                found[event.step, name] = value.simple_value
        return found

    def events(self, folder):
        """Reads event files: records of length, checksum of it, data, checksum of that."""
        for path in sorted(folder.iterdir()):
            data, start = path.read_bytes(), 0
            while start < len(data):
                (length,) = struct.unpack_from("<Q", data, start)
                yield Event.FromString(data[start + 12 : start + 12 + length])
                start += 12 + length + 4


class TestWandbWriter(WriterContract):
    flushes = False

    def config(self):
        return WandbWriter.default_config().set(mode="offline")

    def read(self, directory):
        """As its group shows it: the newest session's values count."""
        found = {}
        for path in sorted(directory.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
            records = self.complete(path)
            (run,) = (record.run for record in records if record.HasField("run"))
            config = {update.key: update.value_json for update in run.config.update}
            found = {k: v for k, v in found.items() if k[0] <= int(config["after_step"])}
            for record in records:
                if record.HasField("history"):
                    values = {item.nested_key[0]: item.value_json for item in record.history.item}
                    for name, value in values.items():
                        if not name.startswith(("_", "performance/")):
                            step = int(values["_step"])
                            found[step, name.removeprefix("train/")] = float(value)
        return found

    def complete(self, path):
        """W&B's own process may still be writing when a run has finished."""
        for _ in range(300):
            records = list(wandb_records(path))
            if records and records[-1].HasField("exit"):
                return records
            time.sleep(0.1)
        raise AssertionError(f"{path} has no end")


def wandb_records(path):
    """Reads a log of LevelDB: blocks of 32 KiB with pieces of records, each after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, start, record = path.read_bytes(), 7, b""
    while start < len(data):
        length, kind = struct.unpack_from("<HB", data, start + 4)
        record += data[start + 7 : start + 7 + length]
        start += 7 + length
        if -start % 32768 < 7:
            start += -start % 32768
        if kind in (1, 4):  # whole, or a last piece
            yield Record.FromString(record)
            record = b""


class TestMlflowWriter(WriterContract):
    uri = ""  # of the database below, once there is one

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def database(cls, tmp_path_factory):
        """One for all tests: MLflow takes seconds to create it."""
        cls.uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
            yield

    def config(self):
        return MlflowWriter.default_config().set(tracking_uri=self.uri)

    def read(self, directory):
        """As its runs show it: the newest session's values count."""
        from mlflow import MlflowClient  # seconds, which other tests of this file need not wait

        client, found = MlflowClient(tracking_uri=self.uri), {}
        experiment = client.get_experiment_by_name("axlearn").experiment_id
        for run in client.search_runs([experiment], order_by=["attributes.start_time ASC"]):
            if run.data.tags["directory"] != str(directory):
                continue
            after_step = int(run.data.tags["after_step"])
            found = {key: value for key, value in found.items() if key[0] <= after_step}
            for name in run.data.metrics:
                for metric in client.get_metric_history(run.info.run_id, name):
                    found[metric.step, name.removeprefix("train/")] = metric.value
        return found


class TestPrometheusWriter(WriterContract):
    keeps_history = False

    @pytest.fixture(autouse=True)
    def seen(self, monkeypatch):
        """What a server collects: the last of it just before the run ends."""
        self.pages = []
        self.writers = []
        opening, closing = PrometheusWriter.open, PrometheusWriter.close

        def open(writer, directory, *, after_step):
            opening(writer, directory, after_step=after_step)
            self.writers.append(writer)

        def close(writer):
            self.pages.append(self.collect(writer))
            self.writers.remove(writer)
            closing(writer)

        monkeypatch.setattr(PrometheusWriter, "open", open)
        monkeypatch.setattr(PrometheusWriter, "close", close)

    def collect(self, writer):
        with urllib.request.urlopen(f"http://127.0.0.1:{writer.port}/metrics") as answer:
            return answer.read().decode()

    def config(self):
        return PrometheusWriter.default_config().set(port=0)

    def read(self, directory):
        page = self.collect(self.writers[0]) if self.writers else self.pages[-1]
        samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
        steps = {s.labels["kind"]: int(s.value) for s in samples if s.name == "axlearn_step"}
        found = {}
        for sample in samples:
            kind, of = sample.labels["kind"], sample.labels["of"]
            name = sample.name.removeprefix("axlearn_")
            if name != "step":
                found[steps[kind], f"{of}/{name}" if of else name] = sample.value
        return found


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-core", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
