"""The steps of a run, one after the other, and what happens between them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from axlearn_core.errors import UserError
from axlearn_core.guards.guards import Watch
from axlearn_core.guards.numbers import Rewind
from axlearn_core.observe.clock import Clock
from axlearn_core.observe.metrics import MetricsQueue
from axlearn_core.observe.profiling import Profiler
from axlearn_core.training.evaluation import Evaluation
from axlearn_core.training.input import Input
from axlearn_core.training.keeping import Keeper
from axlearn_core.training.prefetch import Prefetcher
from axlearn_core.training.program import Program
from axlearn_core.training.report import Report
from axlearn_core.training.state import TrainState
from axlearn_core.training.step import TrainStep
from axlearn_core.training.stopping import StopRequest


class Loop(NamedTuple):
    """What the steps are made with."""

    program: Program
    train_step: TrainStep
    source: Input
    prefetcher: Prefetcher
    evaluations: Sequence[Evaluation]
    under_way: MetricsQueue
    report: Report
    keeper: Keeper
    watch: Watch
    profiler: Profiler
    clock: Clock
    stop: StopRequest

    def run(self, state: TrainState, step: int, max_step: int) -> tuple[int, str]:
        """Makes the steps after `step`; returns the last one and why it was that.

        Raises:
            UserError: if the input ends before `max_step`.
            Rewind: if the run is to go back to its last checkpoint.
        """
        reason = "failed"
        self.stop.stepping = True
        try:
            state, step = self._steps(state, step, max_step)
            reason = "completed" if step == max_step else self.stop.reason or "interrupted"
            return step, reason
        except Rewind as rewind:
            reason = str(rewind)
            self.keeper.drop_copies()
            raise
        except Exception as error:
            reason = f"failed: {error}"
            raise
        finally:
            self.keeper.close()
            self.report.finished(self.clock.step, reason)

    def _steps(self, state: TrainState, step: int, max_step: int) -> tuple[TrainState, int]:
        input_state = None
        for batch, input_state in self.clock.waiting(self.prefetcher):
            self.watch.before_step(step + 1, state, batch, input_state)
            with self.profiler.step(step + 1, state):
                state, metrics = self.train_step(state, batch)
            step += 1
            self.under_way.add(step, metrics, self.source.figures(input_state))
            self._take_arrived()
            self.keeper.tell_complete()

            last = self.stop.reached(step) or step == max_step  # a later signal ends the next step
            save = self.keeper.due(step)
            self.watch.after_step(step, state, saves=last or save is not None)
            evaluations = [e for e in self.evaluations if e.due(step) or step == max_step]
            if evaluations or last or save:
                self._take_all()
                for evaluation in evaluations:
                    self._evaluate(evaluation, step, state)
                if last:
                    self.keeper.save_last(step, state, input_state)
                elif save:
                    save(state, input_state)
                self.watch.alive(step)
                self.report.resumed_timing(step, self.prefetcher.waited)
            if last:
                return state, step
        self._take_all()
        if input_state is not None:
            self.keeper.save_last(step, state, input_state)
        raise UserError(
            f"the input ended after step {step}, which is saved, and max_step is {max_step}. Let "
            f"the input repeat, or set max_step={max(step, 1)}"
        )

    def _evaluate(self, evaluation: Evaluation, step: int, state: TrainState) -> None:
        with self.clock.phase("eval"):
            values = evaluation.run(self.program, state, partial(self.watch.alive, step))
        self.report.evaluated(step, evaluation.name, values, evaluation.baselines)

    def _take_arrived(self) -> None:
        for metrics in self.under_way.arrived():
            self.report.step(metrics, waited=self.prefetcher.waited)
            self.watch.arrived(metrics)

    def _take_all(self) -> None:
        for metrics in self.under_way.drain():
            self.report.step(metrics, waited=self.prefetcher.waited)
            self.watch.arrived(metrics)
