"""The arithmetic of kernels that the compiler cannot look into, from what they were called for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from axlearn_core.kernels import Choice, kernel_of, scope_of
from axlearn_core.plan.hlo import Instruction
from axlearn_core.plan.reading import FlopsOfKernel

# `jax.named_scope` of `scope_of` is part of the op_name, the innermost one last.
_SCOPE: Final = re.compile(r"kernel_[0-9a-f]{8}")


def flops_of_kernels(choices: Iterable[Choice]) -> FlopsOfKernel:
    """Returns what counts the kernels of a program in whose trace these choices were recorded.

    The same kernel is asked that was called, with the specification of the op that it was called
    for, which the name of the scope tells.
    """
    by_scope = {scope_of(choice): choice for choice in choices}

    def flops(line: Instruction) -> float | None:
        scopes = _SCOPE.findall(line.op_name)
        choice = by_scope.get(scopes[-1]) if scopes else None
        count = getattr(kernel_of(choice), "flops", None) if choice else None
        if choice is None or count is None:
            return None
        program = f"{line.op_name.rpartition(scopes[-1])[2]} {line.attribute('custom_call_target')}"
        return float(count(choice.spec, program))

    return flops
