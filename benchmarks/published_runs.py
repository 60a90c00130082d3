"""Published runs beside what a plan says of them: python benchmarks/published_runs.py.

The runs are those of arXiv:2507.05411 (table of training performance): Llama 2 7B and 70B at
sequences of 4096. For each, the fastest plan that `axl plan --search` finds by arithmetic is taken,
since these runs were tuned; no number here is fitted to a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from axlearn_core.plan.record import Plan
from axlearn_core.plan.search import search
from axlearn_core.plan.target import parse_target
from axlearn_core.plugins import get_registry
from axlearn_core.training import Trainer
from axlearn_core.training.assemble import assemble


@dataclass(frozen=True)
class Run:
    """A published run."""

    experiment: str
    published_as: str
    target: str
    rows: int  # of 4096 tokens per step
    seconds: float
    mfu: float


# The paper names machines and leaves the batch out. What makes its MFU come out of its step times
# is 1024 rows of 4096 (Llama 2's 4M tokens) everywhere, with "v5p-512" as Google names slices: by
# TensorCores, of which a chip has two. Counted as 512 chips, it would be 2048 rows.
RUNS = (
    Run("published.llama2-7b", "v5p-512", "tpu-v5p-256", 1024, 2.5, 0.662),
    Run("published.llama2-70b", "v5p-1024", "tpu-v5p-512", 1024, 11.6, 0.680),
    Run("published.llama2-7b", "256 H100", "gpu-h100-256", 1024, 1.4, 0.542),
    Run("published.llama2-7b", "v5p-512", "tpu-v5p-512", 2048, 2.5, 0.662),
    Run("published.llama2-70b", "v5p-1024", "tpu-v5p-1024", 2048, 11.6, 0.680),
)


def plan(run: Run) -> Plan:
    """Returns the fastest plan by arithmetic."""
    registry = get_registry()
    target = parse_target(run.target, registry)

    def build(overrides: tuple[str, ...]) -> Trainer:
        words = (f"input.batch_size={run.rows}", *overrides)
        trainer: Trainer = assemble(run.experiment, words, registry).config.instantiate()
        return trainer

    outcome = search(build, target, registry, experiment=run.experiment)
    return outcome.front[0].plan


def line(run: Run, found: Plan) -> str:
    """Returns a row of the table."""
    seconds, mfu = found.step_seconds, found.mfu
    assert seconds is not None and mfu is not None
    inside = seconds.low <= run.seconds <= seconds.high and mfu.low <= run.mfu <= mfu.high
    implied = mfu.low * seconds.high / run.seconds
    mesh = " ".join(f"{axis}={size}" for axis, size in found.mesh_shape.items())
    saved = next((w.partition("save=")[2] for w in found.overrides if ".save=" in w), "everything")
    saved = saved.replace("|", " ")  # which would end the cell
    return (
        f"| {run.experiment.partition('.')[2]} | {run.published_as} | {run.target} | {run.rows} "
        f"| {run.seconds} s | {seconds.low:.2f}-{seconds.high:.2f} s "
        f"| {run.mfu:.1%} | {mfu.low:.0%}-{mfu.high:.0%} | {implied:.1%} "
        f"| {'yes' if inside else 'no'} | {found.memory.peak / 2**30:.0f} GiB "
        f"| {mesh}, keeps {saved} |"
    )


HEADER = """\
| model | published as | planned for | rows | step | plan | MFU | plan | implied | in both | peak | plan |
| --- | --- | --- | --: | --: | --: | --: | --: | --: | --- | --: | --- |"""  # noqa: E501


def main() -> None:
    print(HEADER)
    for run in RUNS:
        print(line(run, plan(run)), flush=True)


if __name__ == "__main__":
    main()
