"""What this plugin provides."""

from axlearn_core.plugins import OptimizerRecord, hookimpl


@hookimpl
def axlearn_optimizers() -> list[OptimizerRecord]:
    target = "cautious_adamw.optimizer:CautiousAdamW"
    return [OptimizerRecord("cautious_adamw", target, "Follows gradients (arXiv:2411.16085).")]
