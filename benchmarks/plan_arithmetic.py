"""Plans by arithmetic against compiled programs: python benchmarks/plan_arithmetic.py cpu|tpu.

Prints a row per case, arithmetic / compiled. What is compiled for TPUs here takes minutes a case.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass

from axlearn_core.hardware import apply_environment
from axlearn_core.plan.record import Plan
from axlearn_core.plan.target import Target, parse_target
from axlearn_core.plugins import get_registry

SMALL = (
    "input.seq_len=256",
    "input.batch_size=64",
    "model.stack.layer.attention.num_heads=8",
    "model.stack.layer.attention.num_kv_heads=8",
)
WIDE = (*SMALL, "model.dim=1024", "model.stack.layer.feed_forward.hidden_dim=2816")
# CPUs compute bfloat16 in float32, and so move twice the bytes: there, all is float32.
NARROW = (
    *SMALL,
    "model.dim=512",
    "model.stack.layer.feed_forward.hidden_dim=1408",
    "model.stack.num_layers=8",
    "model.vocab_size=8192",
    "input.vocab_size=8192",
    "compute_dtype=null",
)
FULL = ("model.stack.remat=layers/remat",)
BLOCK = (*FULL, "model.stack.remat.save=block_hidden")


@dataclass(frozen=True)
class Case:
    """text.llama-85m with other sizes."""

    hardware: str
    mesh: str
    overrides: tuple[str, ...] = ()
    accumulation: int = 1

    @property
    def words(self) -> tuple[str, ...]:
        sizes = NARROW if self.hardware.startswith("cpu") else WIDE
        pairs = [axis.split("=") for axis in self.mesh.split()]
        mesh = ", ".join(f'"{axis}": {size}' for axis, size in pairs)
        last = (f"mesh_shape={{{mesh}}}", f"accumulation={self.accumulation}")
        return (*sizes, *self.overrides, *last)


CASES = (
    Case("cpu-8", "data=8"),
    Case("cpu-8", "fsdp=8"),
    Case("cpu-8", "fsdp=4 model=2"),
    Case("cpu-8", "data=2 fsdp=2 model=2"),
    Case("cpu-8", "fsdp=8", BLOCK),
    Case("cpu-8", "fsdp=8", (), 4),
    Case("tpu-v5e-8", "data=8"),
    Case("tpu-v5e-8", "fsdp=8"),
    Case("tpu-v5e-8", "fsdp=4 model=2"),
    Case("tpu-v5e-8", "data=2 fsdp=2 model=2", FULL),
    Case("tpu-v5e-8", "fsdp=8", BLOCK),
    Case("tpu-v5e-8", "fsdp=8", (), 4),
)

HEADER = """\
| target | mesh | kept, micro-batches | peak, MiB | error | FLOPs | sent by axis, MiB |
| --- | --- | --- | --: | --: | --: | --- |"""


def plans(case: Case, target: Target) -> tuple[Plan, Plan]:
    """Returns the plan by arithmetic, with the attention that is compiled, and the compiled one."""
    from axlearn_core.plan.arithmetic import plan_of
    from axlearn_core.plan.blueprint import draw
    from axlearn_core.plan.compiling import plan_by_compiling
    from axlearn_core.plan.labels import Division
    from axlearn_core.training.assemble import assemble

    trainer = assemble("text.llama-85m", case.words, get_registry()).config.instantiate()
    compiled = plan_by_compiling(trainer, target, experiment="", overrides=())
    placement = trainer.placement(target.devices)
    rules, rounds = trainer.config.sharding_rules, case.accumulation
    division = Division(dict(placement.mesh.shape), rules, rounds, plain_attention=True)
    blueprint = draw(trainer)
    return plan_of(blueprint, division, target, slow={}, experiment="", overrides=()), compiled


def row(case: Case, arithmetic: Plan, compiled: Plan) -> str:
    """Returns a line of the table."""
    sent, expected = _sent(arithmetic), _sent(compiled)
    traffic = ", ".join(
        f"{' x '.join(axes)} {_mib(sent[axes])} / {_mib(expected[axes])}"
        for axes in sorted(sent | expected)
        if max(sent[axes], expected[axes]) > 2**20
    )
    kept = {(): "all", FULL: "none", BLOCK: "block_hidden"}[case.overrides]
    error = arithmetic.memory.peak / compiled.memory.peak - 1
    return (
        f"| {case.hardware} | {case.mesh} | {kept}, {case.accumulation} "
        f"| {_mib(arithmetic.memory.peak)} / {_mib(compiled.memory.peak)} | {error:+.1%} "
        f"| {arithmetic.flops / compiled.flops:.3f} | {traffic} |"
    )


def _sent(plan: Plan) -> Counter[tuple[str, ...]]:
    """An all-reduce is counted with half its bytes: CPUs write reduce-scatters as all-reduces."""
    total: Counter[tuple[str, ...]] = Counter()
    for each in plan.traffic:
        halved = each.kind == "all-reduce" and plan.target.startswith("cpu")
        total[tuple(sorted(each.axes))] += each.bytes // 2 if halved else each.bytes
    return total


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f}"


def main() -> None:
    cases = [case for case in CASES if case.hardware.startswith(sys.argv[1])]
    target = parse_target(cases[0].hardware, get_registry())
    apply_environment(target.hardware, os.environ, target.compile_settings)
    target = target.with_devices()
    if target.devices is None:
        sys.exit(str(target.reason))
    print(HEADER)
    for case in cases:
        print(row(case, *plans(case, target)), flush=True)


if __name__ == "__main__":
    main()
