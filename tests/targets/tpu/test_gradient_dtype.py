"""In which dtype TPUs exchange the gradients of weights, read from the compiled training step."""

from __future__ import annotations

import pytest
from jax.experimental import topologies

from axlearn_core.plan.reading import read_program
from axlearn_core.training import Trainer
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers.families import llama

VOCABULARY, WIDTH = 64, 128
# Plain collectives that a reader can tell, and half the time to compile.
OPTIONS = {
    "xla_tpu_enable_async_collective_fusion": False,
    "exec_time_optimization_effort": -1.0,
}


def exchanged(compute: str | None, gradient: str | None) -> dict[str, set[str]]:
    """Returns the dtypes in which four chips add up matrices, by the axis of the mesh.

    Of layers, in their loop, and of the embeddings, which are looked up outside of it. The
    gradient of the output head is added up in float32 whatever the config says.
    """
    model = llama(
        vocab_size=VOCABULARY, dim=WIDTH, num_layers=2, num_heads=4, num_kv_heads=4, hidden_dim=256
    )
    data = SyntheticInput.default_config().set(vocab_size=VOCABULARY, seq_len=128, batch_size=8)
    cfg = trainer(model, data, peak_rate=1e-3, max_step=3).set(
        compile_cache=None,
        mesh_shape={"data": 2, "fsdp": 2},
        compute_dtype=compute,
        gradient_dtype=gradient,
    )
    run: Trainer = cfg.instantiate()
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    program = run.program(run.placement(topology.devices))
    compiled = program.lower_train_step(run.input.batch_shape()).compile(compiler_options=OPTIONS)
    found: dict[str, set[str]] = {}
    for each in read_program(compiled.as_text(), program.placement.mesh).collectives:
        if each.kind not in ("all-reduce", "reduce-scatter"):
            continue
        for shape in each.operands:
            if len(shape.dims) > 1 and each.loops:
                found.setdefault(" x ".join(each.axes), set()).add(shape.dtype)
    return found


@pytest.mark.parametrize(
    ("compute", "gradient", "dtype"),
    [("bfloat16", "float32", "f32"), (None, "bfloat16", "bf16")],
)
def test_matrices_are_added_up_over_devices_in_the_gradients_dtype(
    compute: str | None, gradient: str | None, dtype: str
) -> None:
    assert exchanged(compute, gradient) == {"data": {dtype}, "fsdp": {dtype}}
