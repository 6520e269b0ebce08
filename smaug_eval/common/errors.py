"""Define the errors that a user can cause or fix. Anything else that escapes is a bug of ours."""

from __future__ import annotations

from smaug_eval.common.redaction import redacted

EXIT_DONE = 0
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 3
EXIT_GATE_FAILED = 4
EXIT_INCOMPLETE = 5
EXIT_CANNOT_TELL = EXIT_INCOMPLETE
"""What a gate ends with where the results do not decide it; something is missing, as where a run is incomplete."""


class SmaugError(Exception):
    """Report a problem that the user can fix; keys in its text are masked.

    Args:
        message: What is wrong, naming the file, line or key.
        fix: What to do about it; shown on a line of its own.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        self.message = redacted(message)
        self.fix = None if fix is None else redacted(fix)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message}\n  fix: {self.fix}"


class Interrupted(SmaugError):
    """Report a stop on request; the same command resumes from here."""

    exit_code = EXIT_INTERRUPTED


class Incomplete(SmaugError):
    """Report that a part, such as a judge's verdict, is missing; the same command asks for the rest.

    Attributes:
        result: What there is nevertheless, such as a run with its report; None where there is nothing to show.
    """

    exit_code = EXIT_INCOMPLETE
    result: object = None
