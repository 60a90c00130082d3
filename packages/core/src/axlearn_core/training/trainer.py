"""The training loop, from config to the last line, in the order in which it happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from axlearn_core.checkpoint.checkpointer import Checkpointer, read_facts
from axlearn_core.checkpoint.copies import Copies
from axlearn_core.config import REQUIRED, ConfigError, Configurable, config_hash, to_json, to_text
from axlearn_core.config.text import flat
from axlearn_core.errors import UserError
from axlearn_core.observe.metrics import MetricsQueue, StepMetrics
from axlearn_core.observe.performance import Performance
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
    wait_for_all,
)
from axlearn_core.plugins import Registry, get_registry
from axlearn_core.training.compile_cache import use_compile_cache
from axlearn_core.training.evaluation import Evaluation
from axlearn_core.training.input import Input, tokens_per_step
from axlearn_core.training.learner import Learner
from axlearn_core.training.model import Model
from axlearn_core.training.nearest import nearest_start
from axlearn_core.training.precision import check_dtype
from axlearn_core.training.prefetch import Prefetcher
from axlearn_core.training.program import Program
from axlearn_core.training.report import Report
from axlearn_core.training.result import Result
from axlearn_core.training.resume import find_checkpoint
from axlearn_core.training.run_directory import RunDirectory, open_run
from axlearn_core.training.share import local_batches
from axlearn_core.training.state import TrainState, split_trainable
from axlearn_core.training.step import TrainStep
from axlearn_core.training.stopping import StopRequest, stopping_on_signals
from axlearn_core.training.summary import closing_lines, summary_lines


class NonFiniteError(UserError):
    """The loss or the gradient became infinite or NaN."""


class _Session(NamedTuple):
    """What the loop works with."""

    program: Program
    train_step: TrainStep
    prefetcher: Prefetcher
    report: Report
    checkpointer: Checkpointer
    copies: Copies
    stop: StopRequest


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
        log_every: int = 10  # steps between records
        writers: list[Writer.Config] = []  # besides metrics.jsonl, which is always written
        compile_cache: str | None = "~/.cache/axlearn/compiled"  # null compiles anew every time

    def __init__(self, config: Config):
        super().__init__(config)
        if config.max_step < 1 or config.log_every < 1 or config.accumulation < 1:
            raise ConfigError("max_step, log_every and accumulation must be at least 1")
        for name in ("compute_dtype", "gradient_dtype", "accumulation_dtype"):
            check_dtype(name, getattr(config, name))
        check_rules(config.sharding_rules)
        # All that is built without the model's help comes first, so that one error can name every
        # field that is missing.
        self.model: Model = config.model.instantiate(name="model")
        self.input: Input = config.input.instantiate()
        self.evaluations: list[Evaluation] = [
            evaluation.instantiate(name=name) for name, evaluation in config.evaluations.items()
        ]
        self.writers: list[Writer] = [
            writer.instantiate() for writer in [JsonlWriter.Config(), *config.writers]
        ]
        specs = self.model.parameter_specs()
        total_steps = config.learner.total_steps or config.max_step
        self.learner: Learner = config.learner.clone(total_steps=total_steps).instantiate(
            specs=split_trainable(specs, specs)[0]
        )

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
    ) -> Result:
        """Trains from the newest checkpoint in `directory`, or from scratch, to `max_step`.

        Every process of a run calls this; process 0 alone prints, writes metrics, tells plugins.

        Args:
            directory: of this run and no other; all its processes share it.
            experiment: its name, for people.
            changes: lines that say what differs from the experiment and where that was set.
            progress: where to print; standard output by default.

        Raises:
            UserError: for what the user can mend; everything saved so far stays intact.
        """
        plugins = get_registry().fingerprint()
        check_agreement(self._agreed_facts(plugins, directory))
        progress = (progress or Progress(self.config.max_step)) if is_first() else Silence()
        facts = {"experiment": experiment, "plugins": plugins}
        use_compile_cache(self.config.compile_cache)
        with (
            open_run(directory, self.config, facts) as run,
            stopping_on_signals(progress.say) as stop,
        ):
            return self._run(run, stop, progress, experiment, changes)

    def _run(
        self,
        run: RunDirectory,
        stop: StopRequest,
        progress: Progress,
        experiment: str,
        changes: Sequence[str],
    ) -> Result:
        cfg = self.config
        program = self.program(self.placement())
        program.check_batch("input", self.input.batch_shape(), accumulation=cfg.accumulation)
        for evaluation in self.evaluations:
            where = f"evaluations.{evaluation.name}.input"
            program.check_batch(where, evaluation.input.batch_shape())
        for line in summary_lines(
            program, self.input.batch_shape(), cfg.max_step, experiment, changes, run.path
        ):
            progress.say(line)

        newest = find_checkpoint(run, self.input, progress)
        if newest and newest.step >= cfg.max_step:
            progress.say(f"step {newest.step} is done already, and max_step is {cfg.max_step}")
            progress.say(f"next: raise max_step to go on, or axl generate {run.path}")
            return Result(newest.step, "completed", read_facts(newest.path)["values"])
        performance = self._performance(program.placement)
        compiling = program.compile_train_step(self.input.batch_shape())
        copies: Copies = cfg.copies.instantiate(directory=run.path, like=program.state)
        first, state, facts = nearest_start(
            newest,
            copies,
            program,
            self.input,
            progress,
            directory=run.path,
            max_step=cfg.max_step,
        )
        batches = local_batches(self.input, program.placement)
        if facts:
            batches.set_state(facts["input"])

        # Both the compiler and the input work from here on.
        with contextlib.closing(Prefetcher(batches, program.placement)) as prefetcher:
            train_step, trace_seconds, compile_seconds, memory = compiling.result()
            needs = f", needs {size(memory.total)} per device" if memory else ""
            progress.say(
                f"compiled the step in {trace_seconds + compile_seconds:.1f} s "
                f"(traced {trace_seconds:.1f}, compiled {compile_seconds:.1f}){needs}"
            )
            checkpointer: Checkpointer = cfg.checkpoint.instantiate(directory=run.path)
            report = Report(
                progress,
                self.writers if is_first() else [],
                performance,
                get_registry().hook if is_first() else Registry().hook,
                max_step=cfg.max_step,
                log_every=cfg.log_every,
            )
            report.started(run.path, experiment, after_step=first)
            began = time.perf_counter()
            session = _Session(program, train_step, prefetcher, report, checkpointer, copies, stop)
            step, reason = self._train(state, first, session)
            copies.remove()  # the checkpoint that is complete now holds all that they do
        result = Result(step, reason, report.last)
        seconds = time.perf_counter() - began
        for line in closing_lines(result, run.path, cfg.max_step, self.evaluations, seconds):
            progress.say(line)
        return result

    def _train(self, state: TrainState, step: int, session: _Session) -> tuple[int, str]:
        """Makes the steps after `step`; returns the last one and why it was that."""
        program, train_step, prefetcher, report, checkpointer, copies, stop = session
        first, max_step, reason = step, self.config.max_step, "failed"
        under_way = MetricsQueue()
        stop.stepping = True
        try:
            for batch, input_state in prefetcher:
                state, metrics = train_step(state, batch)
                step += 1
                under_way.add(step, metrics)
                for arrived in under_way.arrived():
                    self._check_and_report(arrived, report, prefetcher.waited)
                for saved in checkpointer.poll():
                    report.saved(*saved)

                last = stop.reached(step) or step == max_step  # a later signal ends the next step
                evaluations = [e for e in self.evaluations if e.due(step) or step == max_step]
                if evaluations or last or checkpointer.due(step) or copies.due(step):
                    for arrived in under_way.drain():
                        self._check_and_report(arrived, report, prefetcher.waited)
                    for evaluation in evaluations:
                        values = evaluation.run(program, state)
                        report.evaluated(step, evaluation.name, values, evaluation.baselines)
                    if last or checkpointer.due(step):
                        self._save(session, step, state, input_state)
                    elif copies.due(step):
                        report.flush()
                        copies.save(step, state, self._facts(input_state, report))
                    report.resumed_timing(step, prefetcher.waited)
                if last:
                    break
            else:
                for arrived in under_way.drain():
                    self._check_and_report(arrived, report, prefetcher.waited)
                if step > first and not checkpointer.due(step):
                    self._save(session, step, state, input_state)
                _finish(checkpointer)
                raise UserError(
                    f"the input ended after step {step}, which is saved, and max_step is "
                    f"{max_step}. Let the input repeat, or set max_step={max(step, 1)}"
                )
            _finish(checkpointer)
            reason = "completed" if step == max_step else stop.reason or "interrupted"
            return step, reason
        except Exception as error:
            reason = f"failed: {error}"
            raise
        finally:
            checkpointer.close()
            for saved in checkpointer.poll():
                report.saved(*saved)
            report.finished(step, reason)

    def _save(
        self, session: _Session, step: int, state: TrainState, input_state: Mapping[str, Any]
    ) -> None:
        session.report.flush()  # the checkpoint must not be ahead of what is written
        facts = self._facts(input_state, session.report)
        session.checkpointer.save(step, state, facts, self._config_texts())

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

    def _check_and_report(self, metrics: StepMetrics, report: Report, waited: float) -> None:
        report.step(metrics, waited=waited)
        if not metrics.values["finite"]:
            raise NonFiniteError(
                f"step {metrics.step}: the loss ({float(metrics.values['loss'])}) or the gradient "
                f"norm ({float(metrics.values['gradient_norm'])}) is not finite. Nothing was "
                "updated from there on, and the last checkpoint is intact. Lower the learning "
                "rate, clip more tightly, or look at this step's data"
            )

    def _facts(self, input_state: Mapping[str, Any], report: Report) -> dict[str, Any]:
        return {
            "input": input_state,
            "input_description": self.input.describe(),
            "plugins": get_registry().fingerprint(),
            "config_hash": config_hash(self.config),
            "values": dict(report.last),  # as of now: it is written while the run goes on
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

    def _config_texts(self) -> dict[str, str]:
        texts = {"config.txt": to_text(self.config)}
        try:
            texts["config.json"] = to_json(self.config, get_registry())
        except ConfigError as error:  # a component that no plugin registers, used from Python
            texts["config.json.missing"] = str(error)
        return texts


def _finish(checkpointer: Checkpointer) -> None:
    """Waits until the last checkpoint is complete, which process 0 is the last to know."""
    checkpointer.wait()
    wait_for_all("the last checkpoint is complete")
