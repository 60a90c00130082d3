"""What this package provides."""

from axlearn_core.plugins import LearnerRecord, OptimizerRecord, ScheduleRecord, hookimpl


@hookimpl
def axlearn_learners() -> list[LearnerRecord]:
    return [
        LearnerRecord(
            "optax_learner",
            "axlearn_learners.learner:OptaxLearner",
            "Clips gradients by global norm and updates parameters, by group.",
        ),
        LearnerRecord(
            "average_weights",
            "axlearn_learners.averaging:AverageWeights",
            "Evaluates with a moving average of the weights (arXiv:1806.05594).",
        ),
        LearnerRecord(
            "skip_steps",
            "axlearn_learners.skip:SkipSteps",
            "Skips updates whose gradient is not finite, too large, or a spike.",
        ),
    ]


@hookimpl
def axlearn_optimizers() -> list[OptimizerRecord]:
    return [
        OptimizerRecord(
            "adamw",
            "axlearn_learners.optimizers:AdamW",
            "Adam with decoupled weight decay (arXiv:1711.05101).",
        ),
        OptimizerRecord(
            "decoupled_adamw",
            "axlearn_learners.decoupled:DecoupledAdamW",
            "Adam whose weight decay is free of the learning rate (arXiv:1711.05101).",
        ),
        OptimizerRecord(
            "adastar",
            "axlearn_learners.adastar:AdaStar",
            "Momentum of normalized, clipped gradients (arXiv:2407.21075).",
        ),
        OptimizerRecord(
            "sgd",
            "axlearn_learners.momentum:SGD",
            "Gradient descent with momentum.",
        ),
        OptimizerRecord(
            "lion",
            "axlearn_learners.momentum:Lion",
            "The sign of a mean of gradients (arXiv:2302.06675).",
        ),
        OptimizerRecord(
            "ademamix",
            "axlearn_learners.adam_variants:AdEMAMix",
            "Adam with a second, slow mean of gradients (arXiv:2409.03137).",
        ),
        OptimizerRecord(
            "adopt",
            "axlearn_learners.adam_variants:ADOPT",
            "Adam that normalizes by earlier gradients only (arXiv:2411.02853).",
        ),
        OptimizerRecord(
            "lamb",
            "axlearn_learners.adam_variants:LAMB",
            "Adam with steps as large as the parameter (arXiv:1904.00962).",
        ),
        OptimizerRecord(
            "adafactor",
            "axlearn_learners.adafactor:Adafactor",
            "Adam with a factored second moment (arXiv:1804.04235).",
        ),
        OptimizerRecord(
            "muon",
            "axlearn_learners.muon:Muon",
            "Orthogonalizes the momentum of matrices (arXiv:2502.16982).",
        ),
        OptimizerRecord(
            "schedule_free_adamw",
            "axlearn_learners.schedule_free:ScheduleFreeAdamW",
            "AdamW that averages instead of annealing (arXiv:2405.15682).",
        ),
    ]


@hookimpl
def axlearn_schedules() -> list[ScheduleRecord]:
    return [
        ScheduleRecord(
            "constant",
            "axlearn_learners.schedules:Constant",
            "The same rate at every step.",
        ),
        ScheduleRecord(
            "warmup_cosine",
            "axlearn_learners.schedules:WarmupCosine",
            "Linear warm-up, then half a cosine (arXiv:1608.03983).",
        ),
        ScheduleRecord(
            "warmup_stable_decay",
            "axlearn_learners.schedules:WarmupStableDecay",
            "Linear warm-up, a plateau, then linear decay (arXiv:2404.06395).",
        ),
        ScheduleRecord(
            "warmup_linear",
            "axlearn_learners.schedules:WarmupLinear",
            "Linear warm-up, then linear decay (arXiv:1810.04805).",
        ),
        ScheduleRecord(
            "inverse_square_root",
            "axlearn_learners.schedules:InverseSquareRoot",
            "Linear warm-up, then 1 / sqrt(step) (arXiv:1706.03762).",
        ),
        ScheduleRecord(
            "piecewise",
            "axlearn_learners.phases:Piecewise",
            "Rates at given steps, joined by lines or jumps.",
        ),
        ScheduleRecord(
            "phases",
            "axlearn_learners.phases:Phases",
            "Schedules one after another, by name.",
        ),
    ]
