"""Which of a node's GPUs belong to a task of Slurm."""

from __future__ import annotations

import re
from collections.abc import Mapping

from axlearn_core.hardware import HardwareError


def local_device_ids(environment: Mapping[str, str], visible: int) -> list[int]:
    """Returns the GPUs of this task, as indices into those that it sees.

    Left alone, jax takes one GPU for each task. Here the tasks of a node share its GPUs evenly, be
    it eight for one task or two for each of four; where Slurm has bound GPUs to tasks, a task takes
    all that it sees.

    Args:
        environment: of a step of Slurm.
        visible: how many GPUs this process sees.

    Raises:
        HardwareError: if the tasks of this node cannot share its GPUs evenly.
    """
    tasks = _tasks_on_this_node(environment)
    bound = any(environment.get(name) for name in ("SLURM_GPUS_PER_TASK", "SLURM_GPU_BIND"))
    if bound or visible < tasks:
        return list(range(visible))
    share, rest = divmod(visible, tasks)
    if rest:
        raise HardwareError(
            f"{tasks} tasks of this node cannot share its {visible} GPUs evenly: set "
            "--ntasks-per-node to a divisor of the GPUs, or bind them with --gpus-per-task"
        )
    first = int(environment.get("SLURM_LOCALID", "0")) * share
    return list(range(first, first + share))


def _tasks_on_this_node(environment: Mapping[str, str]) -> int:
    """Reads SLURM_STEP_TASKS_PER_NODE, such as "8(x3),4": three nodes with 8 tasks, one with 4."""
    counts: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "1").split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match:
            counts += [int(match[1])] * int(match[2] or 1)
    node = int(environment.get("SLURM_NODEID", "0"))
    return counts[node] if node < len(counts) else 1
