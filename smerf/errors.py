"""The errors that reach a user, each with its exit code.

Every message names the file or the flag at fault and says what to do next. The command line prints the
message without a traceback and exits with ``exit_code``.
"""

__all__ = ["InvalidDataError", "MissingPartError", "SmerfError", "UsageError", "VerificationError"]


class SmerfError(Exception):
    """A failure at run time."""

    exit_code = 1


class UsageError(SmerfError):
    """A command or call that makes no sense as given."""

    exit_code = 2


class MissingPartError(SmerfError):
    """An optional dependency, a device or a file of weights that is not here."""

    exit_code = 3


class InvalidDataError(SmerfError):
    """Input data that is corrupt, incomplete or contradictory."""

    exit_code = 4


class VerificationError(SmerfError):
    """A check of the result that did not hold."""

    exit_code = 5
