"""What this package provides. It imports nothing heavy: every `axl` command reads it."""

from axlearn_core.plugins import OptimizerRecord, ScheduleRecord, hookimpl


@hookimpl
def axlearn_optimizers() -> list[OptimizerRecord]:
    return [
        OptimizerRecord(
            "cautious_adamw",
            "acme_optimizers.cautious:CautiousAdamW",
            "AdamW where mean and gradient agree (arXiv:2411.16085).",
        ),
    ]


@hookimpl
def axlearn_schedules() -> list[ScheduleRecord]:
    return [
        ScheduleRecord(
            "square_root_cooldown",
            "acme_optimizers.cooldown:SquareRootCooldown",
            "Any schedule, to 0 by the 1-sqrt law (arXiv:2405.18392).",
        ),
    ]
