"""A run, from config to the last line, in the order in which it happens."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from axlearn_core.checkpoint.checkpointer import Checkpointer, check_metric, read_facts
from axlearn_core.checkpoint.copies import Copies
from axlearn_core.config import REQUIRED, ConfigError, Configurable, config_hash, to_json, to_text
from axlearn_core.config.text import flat
from axlearn_core.guards.guards import Guards, Watch
from axlearn_core.guards.numbers import Rewind, attempt_from
from axlearn_core.module import ParameterSpecs
from axlearn_core.observe.clock import Clock
from axlearn_core.observe.metrics import MetricsQueue
from axlearn_core.observe.outlets import Outlets
from axlearn_core.observe.performance import Performance
from axlearn_core.observe.profiling import Profiler
from axlearn_core.observe.progress import Progress, Silence, size
from axlearn_core.observe.utilization import Utilization
from axlearn_core.observe.writers import JsonlWriter, Writer
from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    check_agreement,
    check_rules,
    is_first,
    make_mesh,
)
from axlearn_core.plugins import Registry, get_registry
from axlearn_core.training.compile_cache import use_compile_cache
from axlearn_core.training.evaluation import Evaluation
from axlearn_core.training.initialize_from import InitializeFrom
from axlearn_core.training.input import Input, tokens_per_step
from axlearn_core.training.keeping import Keeper
from axlearn_core.training.learner import Learner
from axlearn_core.training.loop import Loop
from axlearn_core.training.model import Model
from axlearn_core.training.nearest import nearest_start
from axlearn_core.training.precision import check_dtype
from axlearn_core.training.prefetch import Prefetcher
from axlearn_core.training.program import CompiledStep, Program
from axlearn_core.training.report import Report
from axlearn_core.training.result import Result
from axlearn_core.training.resume import check_same_input, find_checkpoint, go_on
from axlearn_core.training.run_directory import RunDirectory, describe, open_run
from axlearn_core.training.share import local_batches
from axlearn_core.training.state import split_trainable
from axlearn_core.training.step import TrainStep
from axlearn_core.training.stopping import StopRequest, stopping_on_signals
from axlearn_core.training.summary import closing_lines, goodput_line, summary_lines


def learner_of(config: Trainer.Config, specs: ParameterSpecs) -> Learner:
    """Returns the learner of a run whose model has these parameters."""
    total_steps = config.learner.total_steps or config.max_step
    learner: Learner = config.learner.clone(total_steps=total_steps).instantiate(
        specs=split_trainable(specs, specs)[0]
    )
    return learner


class _Session(NamedTuple):
    """What lasts from the start of the process to its end."""

    run: RunDirectory
    stop: StopRequest
    clock: Clock
    outlets: Outlets
    progress: Progress


class Trainer(Configurable):
    """Trains a model. Its config is the root of every experiment."""

    class Config(Configurable.Config):
        model: Model.Config = REQUIRED
        learner: Learner.Config = REQUIRED
        input: Input.Config = REQUIRED
        max_step: int = REQUIRED  # updates in all; schedules span them
        evaluations: dict[str, Evaluation.Config] = {}
        seed: int = 0  # of parameters and dropout; the input has a seed of its own
        accumulation: int = 1  # micro-batches per step; the update is that of one batch
        compute_dtype: str | None = None  # e.g. "bfloat16"; null computes as parameters are stored
        gradient_dtype: str | None = None  # "bfloat16" halves them; null keeps the parameters'
        accumulation_dtype: str = "float32"  # of the sum of micro-batches' gradients
        mesh_shape: dict[str, int] = {"data": -1}  # sizes by axis; -1 takes the devices left
        # Sizes over the slow network between slices or nodes; mesh_shape is then within each.
        slow_mesh_shape: dict[str, int] = {}
        sharding_rules: dict[str, str | tuple[str, ...] | None] = DEFAULT_RULES
        offload_optimizer: bool = False  # its state waits in the host's memory between the steps
        checkpoint: Checkpointer.Config = Checkpointer.default_config()
        copies: Copies.Config = Copies.default_config()  # frequent, beside the processes
        guards: Guards.Config = Guards.default_config()
        initialize_from: InitializeFrom.Config = InitializeFrom.default_config()
        log_every: int = 10  # steps between records
        writers: list[Writer.Config] = []  # besides metrics.jsonl, which is always written
        profile: Profiler.Config = Profiler.default_config()
        compile_cache: str | None = "~/.cache/axlearn/compiled"  # null compiles anew every time

    def __init__(self, config: Config):
        super().__init__(config)
        if config.max_step < 1 or config.log_every < 1 or config.accumulation < 1:
            raise ConfigError("max_step, log_every and accumulation must be at least 1")
        for name in ("compute_dtype", "gradient_dtype", "accumulation_dtype"):
            check_dtype(name, getattr(config, name))
        check_rules(config.sharding_rules)
        check_metric(config.checkpoint, config.evaluations.keys())
        self.initialize_from: InitializeFrom = config.initialize_from.instantiate()
        # All that is built without the model's help comes first, so that one error can name every
        # field that is missing.
        self.model: Model = config.model.instantiate(name="model")
        self.input: Input = config.input.instantiate()
        self.guards: Guards = config.guards.instantiate()
        self.evaluations: list[Evaluation] = [
            evaluation.instantiate(name=name) for name, evaluation in config.evaluations.items()
        ]
        self.writers: list[Writer] = [
            writer.instantiate() for writer in [JsonlWriter.Config(), *config.writers]
        ]
        self.profiler: Profiler = config.profile.instantiate()
        specs = self.model.parameter_specs()
        self.learner: Learner = learner_of(config, specs)

    def program(self, placement: Placement) -> Program:
        """Returns what compiles this run's steps for a mesh."""
        cfg = self.config
        return Program(
            self.model,
            self.learner,
            placement,
            seed=cfg.seed,
            accumulation=cfg.accumulation,
            compute_dtype=cfg.compute_dtype,
            offload_optimizer=cfg.offload_optimizer,
            gradient_dtype=cfg.gradient_dtype,
            accumulation_dtype=cfg.accumulation_dtype,
            numbers=self.guards.numbers,
        )

    def placement(self, devices: Sequence[jax.Device] | None = None) -> Placement:
        """Returns the mesh over these devices, or all that there are, with the sharding rules."""
        cfg = self.config
        mesh = make_mesh(cfg.mesh_shape, devices, slow=cfg.slow_mesh_shape)
        return Placement(mesh, cfg.sharding_rules)

    def run(
        self,
        directory: Path,
        *,
        experiment: str = "(python)",
        changes: Sequence[str] = (),
        progress: Progress | None = None,
        began: float | None = None,
        accept_changes: bool = False,
    ) -> Result:
        """Trains from the newest checkpoint in `directory`, or from scratch, to `max_step`.

        Every process of a run calls this; process 0 alone prints, writes metrics, tells plugins.

        Args:
            directory: of this run and no other; all its processes share it.
            experiment: its name, for people.
            changes: lines that say what differs from the experiment and where that was set.
            progress: where to print; standard output by default.
            began: when work on the session began (Unix seconds), if that was before this call.
            accept_changes: whether to go on though config, plugins or data are not those with
                which the run was trained so far.

        Raises:
            UserError: for what the user can mend; everything saved so far stays intact.
        """
        plugins = get_registry().fingerprint()
        check_agreement(self._agreed_facts(plugins, directory))
        progress = (progress or Progress(self.config.max_step)) if is_first() else Silence()
        facts = {
            "experiment": experiment,
            "changes": list(changes),
            "plugins": plugins,
            "versions": {"jax": jax.__version__, "jaxlib": version("jaxlib")},
        }
        use_compile_cache(self.config.compile_cache)
        with (
            open_run(directory, self.config, facts, accept_changes=accept_changes) as run,
            stopping_on_signals(progress.say) as stop,
        ):
            clock = Clock(run.path if is_first() else None, began=began)
            outlets = Outlets(
                self.writers if is_first() else [], lambda line: clock.fault("writer_failed", line)
            )
            with (
                clock.session(**self._session_facts(experiment, run)),
                self.profiler.session(run.path, clock, progress.say),
                contextlib.closing(outlets),
            ):
                session = _Session(run, stop, clock, outlets, progress)
                result = self._run(session, experiment, changes)
                clock.reason = result.reason
            return result

    def _run(self, session: _Session, experiment: str, changes: Sequence[str]) -> Result:
        cfg = self.config
        program = self.program(self.placement())
        program.check_batch("input", self.input.batch_shape(), accumulation=cfg.accumulation)
        for evaluation in self.evaluations:
            where = f"evaluations.{evaluation.name}.input"
            program.check_batch(where, evaluation.input.batch_shape())
        for line in summary_lines(
            program, self.input.batch_shape(), cfg.max_step, experiment, changes, session.run.path
        ):
            session.progress.say(line)
        rewound: Rewind | None = None
        while True:
            try:
                return self._attempt(session, program, experiment, rewound)
            except Rewind as rewind:
                # Without what its traceback holds, such as the train state.
                rewound = rewind.with_traceback(None)
                told = session.run._replace(changes=[], is_new=False)
                session = session._replace(run=told)

    def _attempt(
        self, session: _Session, program: Program, experiment: str, rewound: Rewind | None
    ) -> Result:
        """Trains from the newest state to the end, or to where the run has to go back."""
        cfg = self.config
        run, progress, clock = session.run, session.progress, session.clock
        newest = find_checkpoint(run, self.input, progress, clock, store=cfg.checkpoint.store)
        if newest and newest.step >= cfg.max_step:
            progress.say(f"step {newest.step} is done already, and max_step is {cfg.max_step}")
            progress.say(f"next: raise max_step to go on, or axl generate {run.path}")
            return Result(newest.step, "completed", read_facts(newest.path)["values"])
        checkpointer: Checkpointer = cfg.checkpoint.instantiate(
            directory=run.path, say=progress.say, fault=clock.fault
        )
        compiling = program.compile_train_step(self.input.batch_shape())
        copies: Copies = cfg.copies.instantiate(directory=run.path, like=program.state)
        first, state, facts = nearest_start(
            newest,
            copies,
            program,
            initial=lambda: self.initialize_from.state(program, progress),
            check=lambda facts: check_same_input(facts, self.input, run, progress),
            run=run,
            progress=progress,
            max_step=cfg.max_step,
        )
        clock.step = first
        clock.record("resumed", from_step=first)
        session.outlets.open(run.path, after_step=first)
        batches = local_batches(self.input, program.placement)
        attempt = attempt_from(first, facts, rewound)
        go_on(batches, attempt.input_state, run, progress)

        # Both the compiler and the input work from here on.
        prefetching = Prefetcher(batches, program.placement, timeout=cfg.guards.input_timeout)
        with contextlib.closing(prefetching) as prefetcher:
            train_step = self._compiled(compiling, session)
            report = self._report(session, program.placement)
            report.started(run.path, experiment, after_step=first)
            began = time.perf_counter()
            watching = self.guards.watching(
                program,
                train_step,
                self.input.batch_shape(),
                attempt,
                run.path,
                progress.say,
                clock.fault,
            )
            with watching as watch, clock.phase("step"):
                keeper = Keeper(
                    checkpointer,
                    copies,
                    report,
                    clock,
                    facts=lambda place: self._facts(place, report, watch),
                    texts=self.config_texts(),
                )
                loop = Loop(
                    program,
                    train_step,
                    self.input,
                    prefetcher,
                    self.evaluations,
                    MetricsQueue(in_step=self.guards.numbers.rewinds),
                    report,
                    keeper,
                    watch,
                    self.profiler,
                    clock,
                    session.stop,
                )
                step, reason = loop.run(state, first, cfg.max_step)
            keeper.drop_copies()  # the checkpoint that is complete now holds all that they do
        result = Result(step, reason, report.last)
        progress.say(goodput_line(clock.account()))
        seconds = time.perf_counter() - began
        for line in closing_lines(result, run.path, cfg.max_step, self.evaluations, seconds):
            progress.say(line)
        return result

    def _compiled(self, compiling: Future[CompiledStep], session: _Session) -> TrainStep:
        """Waits for the compiler, and says what it made."""
        clock = session.clock
        with clock.phase("compile"):
            train_step, trace_seconds, compile_seconds, memory = compiling.result()
        clock.record(
            "compiled",
            trace_seconds=trace_seconds,
            compile_seconds=compile_seconds,
            memory_bytes=memory.total if memory else None,
        )
        needs = f", needs {size(memory.total)} per device" if memory else ""
        session.progress.say(
            f"compiled the step in {trace_seconds + compile_seconds:.1f} s "
            f"(traced {trace_seconds:.1f}, compiled {compile_seconds:.1f}){needs}"
        )
        self.profiler.compiled(train_step)
        return train_step

    def _report(self, session: _Session, placement: Placement) -> Report:
        return Report(
            session.progress,
            session.outlets,
            self._performance(placement),
            get_registry().hook if is_first() else Registry().hook,
            session.clock,
            max_step=self.config.max_step,
            log_every=self.config.log_every,
        )

    def _performance(self, placement: Placement) -> Performance:
        cfg = self.config
        shapes = {name: dims for name, (dims, _) in self.input.batch_shape().items()}
        folder = Path(cfg.compile_cache).expanduser() if cfg.compile_cache else None
        devices = list(placement.mesh.devices.flat)
        utilization = Utilization(devices, cfg.compute_dtype or "float32", folder)
        flops = self.model.flops_per_step(shapes)
        return Performance(
            tokens_per_step=tokens_per_step(self.input.batch_shape()),
            flops_per_step=flops,
            peak_flops=utilization.peak_flops() if flops else None,
            memory=utilization.memory,
            readings=utilization.readings,
        )

    def _facts(
        self, input_state: Mapping[str, Any], report: Report, watch: Watch
    ) -> dict[str, Any]:
        return {
            "input": input_state,
            "input_description": self.input.describe(),
            "plugins": get_registry().fingerprint(),
            "config_hash": config_hash(self.config),
            "guards": watch.facts(),
            "values": dict(report.last),  # as of now: it is written while the run goes on
            "measured": dict(report.last_step),
        }

    def _session_facts(self, experiment: str, run: RunDirectory) -> dict[str, Any]:
        """Returns what is remembered of a session's beginning."""
        devices = jax.devices()
        return {
            "experiment": experiment,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "devices": f"{len(devices)} x {devices[0].device_kind}",
            "processes": jax.process_count(),
            "changes": describe(run.changes),
            "max_step": self.config.max_step,
        }

    def _agreed_facts(self, plugins: Mapping[str, str], directory: Path) -> dict[str, str]:
        """Returns what must be the same on every process for them to compute the same."""
        return {
            "jax": jax.__version__,
            "jaxlib": version("jaxlib"),
            "directory": str(directory),
            **{f"plugin {name}": installed for name, installed in plugins.items()},
            **{f"config {path}": value for path, value in flat(self.config).items()},
        }

    def config_texts(self) -> dict[str, str]:
        """Returns the files, by name, in which a checkpoint keeps the config."""
        texts = {"config.txt": to_text(self.config)}
        try:
            texts["config.json"] = to_json(self.config, get_registry())
        except ConfigError as error:  # a component that no plugin registers, used from Python
            texts["config.json.missing"] = str(error)
        return texts
