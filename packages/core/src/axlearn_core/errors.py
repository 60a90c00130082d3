"""The root of every error that is the user's to mend, and how a process ends that hangs."""

from typing import Final

__all__ = ["EXIT_HUNG", "UserError"]

EXIT_HUNG: Final = 75  # EX_TEMPFAIL of sysexits.h: what failed may succeed when it is tried again


class UserError(ValueError):
    """Something outside the program is wrong; the message says what was expected and what to do.

    It is shown without a traceback.
    """
