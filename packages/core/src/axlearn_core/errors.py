"""The root of every error that is the user's to mend: printed as one message, without a traceback."""


class UserError(ValueError):
    """Something outside the program is wrong; the message says what was expected and what to do."""
