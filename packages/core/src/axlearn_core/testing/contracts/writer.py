"""The contract of writers."""

from __future__ import annotations

from pathlib import Path

import pytest

from axlearn_core.observe.writers import Writer
from axlearn_core.testing import tiny
from axlearn_core.testing.contracts.config import ConfigContract

Values = dict[tuple[int, str], float]
"""Values by step and name."""


class WriterContract(ConfigContract):
    """What a writer was given can be read, however the run ended, and each step counts once.

    Attributes:
        keeps_history: whether all steps can be read. Else it is the newest value of each name.
        flushes: whether `flush` has an effect. There are services whose client cannot be asked to.
    """

    keeps_history = True
    flushes = True

    def read(self, directory: Path) -> Values:
        """Returns what is written in the directory of a run, as somebody who looks at it sees it.

        The names are those that `write` got.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must know what was written: define read(self, directory) and "
            "return {(step, name): value} of all that the writer has put there"
        )

    def open(self, directory: Path, after_step: int = 0) -> Writer:
        writer: Writer = self.build(self.config())
        writer.open(directory, after_step=after_step)
        return writer

    def test_values_can_be_read(self, tmp_path: Path) -> None:
        writer = self.open(tmp_path)
        writer.write(1, "train", {"loss": 1.5, "learning_rate": 2.0**-20})
        writer.write(2, "eval", {"held_out/loss": -0.25})
        writer.close()
        expected = {(1, "loss"): 1.5, (1, "learning_rate"): 2.0**-20, (2, "held_out/loss"): -0.25}
        assert self.read(tmp_path) == self._kept(expected)

    def test_what_was_flushed_survives_a_process_that_ends(self, tmp_path: Path) -> None:
        if not self.flushes:
            pytest.skip("its client keeps values in memory, and has nothing that writes them")
        writer = self.open(tmp_path)
        writer.write(1, "train", {"loss": 1.5})
        writer.flush()
        found = self.read(tmp_path)  # nobody has closed it
        writer.close()
        assert found == {(1, "loss"): 1.5}

    def test_a_run_that_goes_on_makes_later_steps_again(self, tmp_path: Path) -> None:
        for after_step, losses in ((0, {1: 4.0, 2: 3.0, 3: 2.0}), (1, {2: 3.5})):
            writer = self.open(tmp_path, after_step)
            for step, loss in losses.items():
                writer.write(step, "train", {"loss": loss})
            writer.flush()
            writer.close()
        assert self.read(tmp_path) == self._kept({(1, "loss"): 4.0, (2, "loss"): 3.5})

    def test_a_run_writes_the_losses_of_its_first_and_every_second_step(
        self, tmp_path: Path
    ) -> None:
        cfg = tiny.experiment().set(mesh_shape={"data": 1}, max_step=4, log_every=2)
        cfg.writers = [self.config()]
        cfg.instantiate().run(tmp_path / "run")
        found = self.read(tmp_path / "run")
        steps = [step for step, name in found if name == "loss"]
        assert steps == ([1, 2, 4] if self.keeps_history else [4])

    def _kept(self, values: Values) -> Values:
        if self.keeps_history:
            return values
        newest = {name: step for step, name in sorted(values)}
        return {(step, name): values[step, name] for name, step in newest.items()}
