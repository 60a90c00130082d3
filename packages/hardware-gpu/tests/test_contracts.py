"""The backend, kernels and every mesh rule under their contracts."""

import jax.numpy as jnp
import numpy as np

from axlearn_core.kernels import (
    LinearBias,
    attention,
    causal,
    chunk,
    full,
    prefix,
    ragged_matmul,
    same_segment,
    window,
)
from axlearn_core.testing.contracts import (
    HardwareContract,
    KernelContract,
    MeshRuleContract,
    check_coverage,
)


class TestNvidiaGPU(HardwareContract):
    name = "axlearn-hardware-gpu/nvidia"

    def device_kinds(self):
        return {
            "NVIDIA A100-SXM4-40GB": "a100-40",
            "NVIDIA A100-SXM4-80GB": "a100-80",
            "NVIDIA A100 80GB PCIe": "a100-80-pcie",
            "NVIDIA H100 80GB HBM3": "h100",
            "NVIDIA H100 PCIe": "h100-pcie",
            "NVIDIA H100 NVL": None,
            "NVIDIA H200": "h200",
            "NVIDIA H200 NVL": None,
            "NVIDIA B200": "b200",
            "NVIDIA GB200": "gb200",
            "NVIDIA B300 SXM6 AC": "b300",
            "NVIDIA L4": "l4",
            "NVIDIA L40S": "l40s",
        }


class TestMeshRules(MeshRuleContract):
    distribution = "axlearn-hardware-gpu"

    def machines(self):
        return {
            "gpu-l4-4": ("gpu-without-nvlink", {"data": 2, "fsdp": 2}),
            "gpu-h100-8": ("gpu-nodes", {"fsdp": 8}),
            "gpu-a100-80-1": ("gpu-nodes", {}),
            "gpu-h100-64": ("gpu-nodes", {"data": 8, "fsdp": 8}),
            "gpu-gb200-64": ("gpu-nvl72", {"fsdp": 64}),
        }


class OfAttention(KernelContract):
    def arrays(self, rng, length=64, dim=16, dtype="float32"):
        shapes = [(2, length, heads, dim) for heads in (4, 2, 2)]
        return [rng.normal(size=shape).astype(dtype) for shape in shapes]

    def segments(self, *lengths):
        """Documents in one row, and the same in the other order in the next."""
        numbers = range(1, len(lengths) + 1)
        rows = np.array([np.repeat(numbers, lengths), np.repeat(numbers, lengths[::-1])])
        return {"query_segments": rows, "key_segments": rows}


class TestCudnnAttention(OfAttention):
    name = "axlearn-hardware-gpu/attention.cudnn"  # here, the same call of XLA's operations

    # In bfloat16, both round the weights between their two products, and their results.
    tolerance = KernelContract.narrow_tolerance

    def arrays(self, rng, **options):
        return super().arrays(rng, dtype=jnp.bfloat16, **options)

    def cases(self, rng):
        q, k, v = self.arrays(rng)
        return {
            "causal": self.case(attention, q, k, v, mask=causal()),
            "window": self.case(attention, q, k, v, mask=window(10) & causal(), scale=0.5),
            "every key": self.case(attention, q[:, :32], k, v, mask=full()),
        }

    def refusals(self, rng):
        q, k, v = self.arrays(rng)
        wide = self.arrays(rng, dim=256)
        bias, sinks = LinearBias((1.0, 2.0, 3.0, 4.0)), np.zeros(4)
        packed = self.segments(40, 24)
        return {
            "not float32": self.case(attention, *super().arrays(rng), mask=causal()),
            "takes no positions": self.case(
                attention, q, k, v, mask=full(), query_positions=np.arange(64)
            ),
            "as an array [batch, heads": self.case(attention, q, k, v, mask=causal(), bias=bias),
            "caps no scores": self.case(attention, q, k, v, mask=causal(), logit_cap=1.0),
            "has no sinks": self.case(attention, q, k, v, mask=causal(), sinks=sinks),
            "would need same_segment": self.case(
                attention, q, k, v, mask=causal() & same_segment(), **packed
            ),
            "not window(3)": self.case(attention, q, k, v, mask=window(3)),
            "as many queries as keys": self.case(attention, q[:, :9], k, v, mask=causal()),
            "value_dim (=8)": self.case(attention, q, k, v[..., :8], mask=causal()),
            "head_dim (=256)": self.case(attention, *wide, mask=causal()),
        }


class TestTritonAttention(OfAttention):
    name = "axlearn-hardware-gpu/attention.triton"  # here, interpreted

    def cases(self, rng):
        q, k, v = self.arrays(rng, length=128)
        sinks = rng.normal(size=4).astype(np.float32)
        sliding = causal() & window(40) & same_segment()
        return {
            "causal": self.case(attention, q, k, v, mask=causal()),
            "every key": self.case(attention, q[:, :64], k, v, mask=full()),
            "prefix, chunk": self.case(attention, q, k, v, mask=causal() & chunk(48) | prefix(9)),
            "window, packed, sinks, cap": self.case(
                attention,
                q,
                k,
                v,
                mask=sliding,
                **self.segments(50, 70, 8),
                sinks=sinks,
                logit_cap=5.0,
            ),
            "rows of nothing": self.case(attention, q, k, v, mask=causal() & ~window(30)),
        }

    def refusals(self, rng):
        q, k, v = self.arrays(rng)
        bias = LinearBias((1.0, 2.0, 3.0, 4.0))
        return {
            "known only when running": self.case(
                attention, q, k, v, mask=full(), query_positions=np.arange(64)
            ),
            "adds no bias": self.case(attention, q, k, v, mask=causal(), bias=bias),
            "head_dim (=8)": self.case(attention, q[..., :8], k[..., :8], v, mask=causal()),
            "query_length (=9)": self.case(attention, q[:, :9], k, v, mask=causal()),
            "not float64": self.case(attention, q, k, np.float64(v), mask=causal()),
        }


class TestTritonRaggedMatmul(KernelContract):
    name = "axlearn-hardware-gpu/ragged_matmul.triton"  # here, interpreted

    def of_groups(self, rng, *sizes, rows=192, dims=(48, 32), dtype="float32"):
        arrays = rng.normal(size=(rows, dims[0])), rng.normal(size=(len(sizes), *dims))
        return self.case(ragged_matmul, *(x.astype(dtype) for x in arrays), jnp.array(sizes))

    def cases(self, rng):
        return {
            "an empty group": self.of_groups(rng, 30, 0, 100, 62),
            "empty groups at the ends": self.of_groups(rng, 0, 0, 192, 0),
            "groups of whole blocks": self.of_groups(rng, 64, 128),
            "rows of no group": self.of_groups(rng, 5, 80),
        }

    def refusals(self, rng):
        return {
            "not float64": self.of_groups(rng, 192, dtype=np.float64),
            "rows (=100)": self.of_groups(rng, 100, rows=100),
            "input_dim (=5)": self.of_groups(rng, 192, dims=(5, 32)),
            "output_dim (=9)": self.of_groups(rng, 192, dims=(48, 9)),
        }


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-hardware-gpu", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
