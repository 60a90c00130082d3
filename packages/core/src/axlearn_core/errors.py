"""The root of every error that is the user's to mend: one message, without a traceback."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Something outside the program is wrong; the message says what was expected and what to do."""
