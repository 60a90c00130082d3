"""The flags of libtpu to run with. Each has a published recommendation, named in its comment.

Only flags whose recommended value differs from their default are here. Left out on purpose: flags
against running out of memory, and the size of scoped VMEM, which depends on the model. Set such
things in the shell: they are kept.
"""

from __future__ import annotations

from typing import Final

from axlearn_core.hardware import EnvironmentSetting

_GUIDE = "openxla.org/xla/flags_guidance"
_MAXTEXT = "MaxText: benchmarks/xla_flags_library.py"


def _flag(flag: str, comment: str) -> EnvironmentSetting:
    return EnvironmentSetting("LIBTPU_INIT_ARGS", flag, comment)


SETTINGS: Final[tuple[EnvironmentSetting, ...]] = (
    # These three belong together. The guide writes "kEnabled", which libtpu does not accept.
    _flag(
        "--xla_tpu_enable_ici_ag_pipelining=true",
        f"starts a layer's parameter gather during the layer before ({_GUIDE}: pipelining)",
    ),
    _flag(
        "--xla_should_allow_loop_variant_parameter_in_chain=enabled",
        f"lets the gathers of a scanned layer be pipelined ({_GUIDE}: pipelining)",
    ),
    _flag(
        "--xla_should_add_loop_invariant_op_in_chain=enabled",
        f"lets what feeds them move with them ({_GUIDE}: pipelining)",
    ),
    _flag(
        "--xla_tpu_enable_async_collective_fusion_fuse_all_reduce=true",
        f"runs all-reduces beside computation, as gathers already are ({_GUIDE}: async, for v5e; "
        f"{_MAXTEXT})",
    ),
    _flag(
        "--xla_tpu_enable_async_all_to_all=true",
        f"runs the exchanges of expert layers beside computation ({_GUIDE}: async)",
    ),
    _flag(
        "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
        f"overlaps gradient sums between slices, over the data centre network ({_MAXTEXT})",
    ),
    _flag(
        "--xla_tpu_data_parallel_opt_different_sized_ops=true",
        f"the same where the sums differ in size, as a model's do ({_MAXTEXT})",
    ),
)
