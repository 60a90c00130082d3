"""What an engine refuses or gives up."""

from axlearn_core.errors import UserError


class EngineError(UserError):
    """A request was refused, or ended before its text did."""


class QueueFull(EngineError):
    """As many requests wait as may; try again later."""


class DeadlineExceeded(EngineError):
    """The text was not done in time."""


class Closed(EngineError):
    """Nothing new is taken any more."""
