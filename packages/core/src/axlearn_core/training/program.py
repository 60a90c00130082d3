"""The compiled programs of a run: the initial state, the training step, the evaluation step."""

from __future__ import annotations

import dataclasses
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import jax

from axlearn_core.config import ConfigError
from axlearn_core.guards.numbers import Numbers
from axlearn_core.hardware import backend_of
from axlearn_core.parallel import (
    Placement,
    check_axes_are_used,
    parameter_shardings,
    placing,
    whole_parameters,
)
from axlearn_core.parallel.sharding import axes_of
from axlearn_core.plugins import get_registry
from axlearn_core.training.input import BatchShape
from axlearn_core.training.learner import Learner
from axlearn_core.training.model import Batch, Loss, Model
from axlearn_core.training.offload import check_host_memory, on_device, on_host
from axlearn_core.training.state import TrainState, initial_state, state_axes
from axlearn_core.training.step import (
    EvalStep,
    GradientFunction,
    Metrics,
    TrainStep,
    make_eval_step,
    make_gradients,
    make_train_step,
)

# For what runs once. On the CPU, LLVM's further passes take three times as long over the random
# numbers of an initial state, and change neither its bits nor the time to draw them.
_QUICKLY_COMPILED = {"xla_backend_optimization_level": 1}


class MemoryEstimate(NamedTuple):
    """What the compiled step needs on each device, in bytes."""

    state: int
    temporary: int

    @property
    def total(self) -> int:
        return self.state + self.temporary


class Program:
    """Traces and compiles a run's steps for a mesh; holds no arrays.

    Attributes:
        state: the shapes and places of the train state.
        warnings: of parameters that no rule splits, though the mesh could.
    """

    def __init__(
        self,
        model: Model,
        learner: Learner,
        placement: Placement,
        *,
        seed: int,
        accumulation: int,
        compute_dtype: str | None,
        offload_optimizer: bool = False,
        gradient_dtype: str | None = None,
        accumulation_dtype: str = "float32",
        numbers: Numbers | None = None,
    ):
        self.model = model
        self.learner = learner
        self.placement = placement
        self._seed = seed
        self._accumulation = accumulation
        self._compute_dtype = compute_dtype
        self._gradient_dtype = gradient_dtype
        self._accumulation_dtype = accumulation_dtype
        self.numbers: Numbers = numbers or Numbers.default_config().instantiate()
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="compile")
        specs, mesh, rules = model.parameter_specs(), placement.mesh, placement.rules
        parameter_shardings(specs, mesh, rules)  # raises
        check_axes_are_used(specs, mesh, rules)
        self.warnings = whole_parameters(specs, mesh, rules)
        self.state = self._state_structs()
        if offload_optimizer:
            check_host_memory(mesh)
            self.state = on_host(self.state)

    def initial_state(self) -> TrainState:
        """Creates the state of a run that begins, each part where it belongs."""
        shardings = jax.tree.map(lambda x: x.sharding, self.state)
        options = _QUICKLY_COMPILED if self._platform() == "cpu" else None
        create = jax.jit(self.initial, out_shardings=shardings, compiler_options=options)
        return cast(TrainState, create())

    def compile_train_step(self, batch_shape: BatchShape) -> Future[CompiledStep]:
        """Compiles the training step in the background."""
        return self._workers.submit(self._compile_train_step, batch_shape)

    def train_step(self) -> TrainStep:
        """Returns the training step as a function, for those who only trace it."""
        return make_train_step(self.model, self.learner, numbers=self.numbers, **self._options())

    def gradients(self) -> GradientFunction:
        """Returns the gradients of a step as a function, for those who look into one."""
        return make_gradients(self.model, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "accumulation": self._accumulation,
            "compute_dtype": self._compute_dtype,
            "gradient_dtype": self._gradient_dtype,
            "accumulation_dtype": self._accumulation_dtype,
        }

    def lower_train_step(self, batch_shape: BatchShape) -> jax.stages.Lowered:
        """Traces the training step for the mesh, whose devices may be there to compile for only."""
        update = self.train_step()

        def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            return update(on_device(state, self.state), batch)

        shardings = jax.tree.map(lambda x: x.sharding, self.state)
        # Metrics are whole on every process, since each fetches them.
        out_shardings = (shardings, self.placement.sharding())
        jitted = jax.jit(train_step, donate_argnums=0, out_shardings=out_shardings)
        with placing(self.placement):
            return jitted.lower(self.state, self.batch_structs(batch_shape))

    def compile_eval_step(self, batch_shape: BatchShape) -> EvalStep:
        """Compiles the evaluation step for batches of a shape."""
        evaluate = make_eval_step(self.model, self.learner, compute_dtype=self._compute_dtype)

        def step(state: TrainState, batch: Batch) -> Loss:
            return evaluate(on_device(state, self.state), batch)

        jitted = jax.jit(step, out_shardings=self.placement.sharding())
        with placing(self.placement):
            lowered = jitted.lower(self.state, self.batch_structs(batch_shape))
        return cast(EvalStep, self._compile(lowered))

    def batch_structs(self, batch_shape: BatchShape) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what a global batch looks like on the mesh."""
        return {
            name: jax.ShapeDtypeStruct(shape, dtype, sharding=self.placement.batch(len(shape)))
            for name, (shape, dtype) in batch_shape.items()
        }

    def initial(self) -> TrainState:
        """Computes the state of a run that begins. To be traced, see `initial_state`."""
        state = initial_state(self.model, self.learner, self._seed)
        return dataclasses.replace(state, seen=self.numbers.initial())

    def _state_structs(self) -> TrainState:
        structs = jax.eval_shape(self.initial)
        axes = state_axes(self.model, self.learner)
        axes.seen = {name: (None,) * x.ndim for name, x in structs.seen.items()}
        leaves, tree = jax.tree.flatten(structs)
        names = cast(Any, tree).flatten_up_to(axes)
        placed = [
            jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.placement.sharding(*axis_names))
            for x, axis_names in zip(leaves, names, strict=True)
        ]
        return cast(TrainState, jax.tree.unflatten(tree, placed))

    def check_batch(self, path: str, batch_shape: BatchShape, *, accumulation: int = 1) -> None:
        """Raises a ConfigError if the devices cannot share the rows of the input at `path`."""
        rows = {shape[0] for shape, _ in batch_shape.values()}.pop()
        sizes = self._sizes("batch") | {"accumulation": accumulation}
        if rows % math.prod(sizes.values()):
            raise ConfigError(
                f"{path}.batch_size (={rows}) must be a multiple of {_product(sizes)}, so that "
                "every device gets whole rows"
            )
        sizes = self._sizes("seq")
        for name, (shape, _) in batch_shape.items():
            if len(shape) > 1 and shape[1] % math.prod(sizes.values()):
                raise ConfigError(
                    f"{path} gives {name} of {shape[1]} tokens per row, which must be a multiple "
                    f"of {_product(sizes)}, so that every device gets as many"
                )

    def _sizes(self, name: str) -> dict[str, int]:
        mesh = self.placement.mesh
        return {axis: mesh.shape[axis] for axis in axes_of(self.placement.rules.get(name))}

    def _compile_train_step(self, batch_shape: BatchShape) -> CompiledStep:
        start = time.perf_counter()
        lowered = self.lower_train_step(batch_shape)
        traced = time.perf_counter()
        compiled = self._compile(lowered)
        done = time.perf_counter()
        return CompiledStep(
            cast(TrainStep, compiled), traced - start, done - traced, _memory(compiled)
        )

    def _platform(self) -> str:
        return str(self.placement.mesh.devices.flat[0].platform)

    def _compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        compiled = lowered.compile()
        backend = backend_of(self._platform(), get_registry())
        if backend is not None:
            backend.prepare_process()
        return compiled


class CompiledStep(NamedTuple):
    """The training step, ready to run."""

    run: TrainStep
    trace_seconds: float
    compile_seconds: float
    memory: MemoryEstimate | None


def _product(sizes: dict[str, int]) -> str:
    factors = " x ".join(f"{name} (={size})" for name, size in sizes.items() if size > 1)
    return f"{math.prod(sizes.values())}, that is {factors}"


def _memory(compiled: Any) -> MemoryEstimate | None:
    analysis = compiled.memory_analysis()
    if analysis is None:  # a backend that does not tell
        return None
    return MemoryEstimate(
        int(analysis.argument_size_in_bytes),
        int(analysis.temp_size_in_bytes)
        + int(analysis.output_size_in_bytes)
        - int(analysis.alias_size_in_bytes),
    )
