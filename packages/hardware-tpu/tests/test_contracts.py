"""The backend, kernels and every mesh rule under their contracts."""

import numpy as np

from axlearn_core.kernels import (
    LinearBias,
    attention,
    causal,
    chunk,
    full,
    prefix,
    same_segment,
    window,
)
from axlearn_core.testing.contracts import (
    HardwareContract,
    KernelContract,
    MeshRuleContract,
    check_coverage,
)


class TestTPU(HardwareContract):
    name = "axlearn-hardware-tpu/tpu"

    def device_kinds(self):
        return {
            "TPU v4": "v4",
            "TPU v5 lite": "v5e",
            "TPU v5": "v5p",
            "TPU v6 lite": "v6e",
            "TPU7x": "7x",
            "TPU v5 lite plus": None,
        }


class TestMeshRules(MeshRuleContract):
    distribution = "axlearn-hardware-tpu"

    def machines(self):
        return {
            "tpu-v5p-64": ("tpu-3d-slice", {"fsdp": 64}),
            "tpu-7x-8": ("tpu-3d-slice", {"fsdp": 8}),
            "tpu-v5e-1": ("tpu-2d-slices", {}),
            "tpu-v6e-256": ("tpu-2d-slices", {"fsdp": 256}),
            "tpu-v6e-512": ("tpu-2d-slices", {"data": 2, "fsdp": 256}),
        }


class TestSplashAttention(KernelContract):
    name = "axlearn-hardware-tpu/attention.splash"  # here, interpreted

    def arrays(self, rng, length=256):
        shapes = [(1, length, heads, 8) for heads in (2, 1, 1)]
        return [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    def cases(self, rng):
        q, k, v = self.arrays(rng)
        segments = np.repeat([[1] * 100 + [2] * 130 + [0] * 26], 1, axis=0)
        packed = {"query_segments": segments, "key_segments": segments}
        sinks = rng.normal(size=2).astype(np.float32)
        sliding = causal() & window(150) & same_segment()
        return {
            "causal": self.case(attention, q, k, v, mask=causal()),
            "every key": self.case(attention, q[:, :128], k, v[..., :4], mask=full()),
            "prefix, chunk": self.case(attention, q, k, v, mask=causal() & chunk(64) | prefix(9)),
            "window, packed, sinks, cap": self.case(
                attention, q, k, v, mask=sliding, **packed, sinks=sinks, logit_cap=5.0
            ),
        }

    def refusals(self, rng):
        q, k, v = self.arrays(rng)
        segments = np.ones((1, 256), int)
        apart = {"query_segments": segments, "key_segments": segments.copy()}
        either = {"query_segments": segments, "key_segments": segments}
        bias = LinearBias((0.5, 0.25))
        mixed = causal() | same_segment()
        places = {"query_positions": np.arange(256), "key_positions": np.arange(256)}
        return {
            "adds no bias": self.case(attention, q, k, v, mask=causal(), bias=bias),
            "only restrict": self.case(attention, q, k, v, mask=mixed, **either),
            "would not get zeros": self.case(attention, q, k, v, mask=same_segment(), **apart),
            "query_length (=100)": self.case(attention, q[:, :100], k, v, mask=causal()),
            "known only when running": self.case(attention, q, k, v, mask=causal(), **places),
            "not float16": self.case(attention, *np.float16([q, k, v][:1] * 3), mask=full()),
        }


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-hardware-tpu", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
