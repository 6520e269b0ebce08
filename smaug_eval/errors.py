"""The errors a user can cause or fix. Anything else that escapes is a bug of ours."""

from __future__ import annotations

from smaug_eval.redaction import redacted

EXIT_DONE = 0
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 3


class SmaugError(Exception):
    """A problem the user can mend; keys in its text are masked.

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
    """Stopped on request; the same command continues from here."""

    exit_code = EXIT_INTERRUPTED
