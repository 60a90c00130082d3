"""What a plan says: a train step on a target, before anybody has the target.

Numbers are of one training step and of one device, unless a name says otherwise. A plan is data:
whoever makes it (a compiler, arithmetic), the report, the page, the search and `--compare` read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Method = Literal["compiled", "arithmetic"]


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the step's peak."""

    parameters: int
    optimizer: int
    other_state: int  # module state, step, key, and the batch
    activations: int  # what the forward pass keeps for the backward pass
    temporary: int  # all else: gradients, results within a layer, buffers of collectives
    limit: int | None  # of the chip, None if unknown

    @property
    def peak(self) -> int:
        return self.state + self.activations + self.temporary

    @property
    def state(self) -> int:
        """What exists before and after the step."""
        return self.parameters + self.optimizer + self.other_state

    def with_activations(self, size: int) -> Memory:
        """Returns the same memory, with so much of what is temporary as activations."""
        computed = self.activations + self.temporary
        size = min(size, computed)
        return replace(self, activations=size, temporary=computed - size)

    @property
    def fits(self) -> bool | None:
        return None if self.limit is None else self.peak <= self.limit


@dataclass(frozen=True)
class Traffic:
    """The collectives of one kind over the same mesh axes, in one step."""

    kind: str  # "all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute"
    axes: tuple[str, ...]  # mesh axes that the groups span
    count: int  # how often per step, loops unrolled
    bytes: int  # that one device sends, all of them together
    network: str  # "fast" within a domain (slice, node), or "slow" between them
    seconds: float | None  # on that network, alone; None if its bandwidth is unknown


@dataclass(frozen=True)
class PlacedArray:
    """Where one array of the train state lies."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    spec: str  # its PartitionSpec, such as "(fsdp, model)"
    bytes_per_device: int


@dataclass(frozen=True)
class Times:
    """What each resource would need alone, in seconds; None if its rate is unknown."""

    compute: float | None
    memory: float | None
    network: float | None

    @property
    def binding(self) -> str | None:
        """Which of them is the longest: "compute", "memory" or "network"."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        return max(known, key=lambda name: known[name]) if known else None


@dataclass(frozen=True)
class Range:
    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """One experiment on one target."""

    experiment: str
    overrides: tuple[str, ...]
    target: str  # "tpu-v5p-64"
    method: Method
    mesh_shape: Mapping[str, int]  # axes larger than 1
    tokens_per_step: int  # of all devices
    parameter_count: int  # of the whole model
    model_flops: float  # that the model needs per step, of all devices: what MFU counts
    flops: float  # that a device computes, recomputation included
    bytes_accessed: float  # of its memory
    memory: Memory
    traffic: tuple[Traffic, ...]
    times: Times
    step_seconds: Range | None  # None if no rate is known
    mfu: Range | None  # fractions
    largest: tuple[PlacedArray, ...]  # the ten largest
    notes: tuple[str, ...] = ()  # how it was made, what was assumed, what could not be done
    compile_seconds: float | None = None

    @property
    def tokens_per_day(self) -> Range | None:
        if self.step_seconds is None:
            return None
        day = 86_400 * self.tokens_per_step
        return Range(day / self.step_seconds.high, day / self.step_seconds.low)
