"""Every component that core registers under its contract."""

import json
import shlex
import struct

import jax.numpy as jnp
import numpy as np
import yaml
from tensorboardX.proto.event_pb2 import Event, SessionLog

from axlearn_core.kernels import (
    LinearBias,
    attention,
    causal,
    full,
    ragged_matmul,
    same_segment,
    window,
)
from axlearn_core.launch.jobset import JobSet
from axlearn_core.launch.local import Local
from axlearn_core.launch.slurm import Slurm
from axlearn_core.module import Constant, FanIn, Normal
from axlearn_core.observe.writers import JsonlWriter, TensorBoardWriter
from axlearn_core.testing.contracts import (
    ConfigContract,
    HardwareContract,
    KernelContract,
    LauncherContract,
    WriterContract,
    check_coverage,
)

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
        segments = np.repeat([[1] * 5 + [2] * 4], 2, axis=0)
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


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-core", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
