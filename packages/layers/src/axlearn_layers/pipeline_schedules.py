"""In which order the stages of a pipeline compute."""

from __future__ import annotations

from typing import ClassVar

from axlearn_core.config import Configurable
from axlearn_core.parallel import PipelineShape


class PipelineSchedule(Configurable):
    """The order in which stages compute forwards and backwards."""

    owns_loss: ClassVar[bool]
    """Whether the schedule begins to go backwards before all microbatches have gone forwards, and
    has to be given the loss for that."""

    class Config(Configurable.Config):
        """A schedule's fields."""

    def repeats(self) -> int:
        """Returns how often a microbatch goes round."""
        raise NotImplementedError(type(self))

    def microbatches_in_flight(self, shape: PipelineShape) -> int:
        """Returns of how many pieces of work a stage keeps its input, or more, at one time."""
        raise NotImplementedError(type(self))


class Circular(PipelineSchedule):
    """All microbatches forwards, `num_repeats` times round, then all backwards.

    Once round is GPipe (arXiv:1811.06965). V times (interleaved, arXiv:2104.04473): each stage
    holds V chunks of layers that are as far apart as the stages together are deep. The bubble
    becomes V times smaller, and V times as much is passed on. Every stage keeps what its layers
    need for the backward pass of all microbatches.
    """

    owns_loss = False

    class Config(PipelineSchedule.Config):
        num_repeats: int = 1  # V; above 1, num_stages has to divide num_microbatches

    def repeats(self) -> int:
        repeats: int = self.config.num_repeats
        return repeats

    def microbatches_in_flight(self, shape: PipelineShape) -> int:
        return shape.ticks


class OneForwardOneBackward(PipelineSchedule):
    """Each microbatch backwards as soon as its loss is known (1F1B, arXiv:1806.03377).

    The bubble is GPipe's, and stages keep the inputs of 2 * num_stages - 1 microbatches at most,
    however many there are; their layers are computed again in the backward pass, whatever `remat`
    says. In training the model hands over its loss, as `CausalLM` does; others are refused.
    """

    owns_loss = True

    def repeats(self) -> int:
        return 1

    def microbatches_in_flight(self, shape: PipelineShape) -> int:
        return min(2 * shape.stages - 1, shape.microbatches)
