"""Prepare the standard streams of the command line: open, able to show any text, flushed before the end."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

from smaug_eval.common.errors import SmaugError

_NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ESCAPES = "smaug-json-escapes"
_SIGNS = {"\N{MINUS SIGN}": "-", "\N{PLUS-MINUS SIGN}": "+/-"}
"""Signs before a number: the digits of an escape would be taken for the number's own."""


def fit_standard_streams() -> None:
    r"""Make the standard streams fit for what is printed.

    One that the process was started without (``>&-``) is the null device: whatever is opened next would otherwise get
    its number, and with it what libraries print. Characters that the locale's encoding does not have are printed as
    JSON writes them (``\u00e4``), so that JSON stays JSON; the signs of numbers in ASCII.
    """
    for name, number in _NUMBERS.items():
        if getattr(sys, name) is None and not _is_open(number):
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    codecs.register_error(_ESCAPES, _json_escapes)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ESCAPES)


@contextlib.contextmanager
def written_out() -> Iterator[None]:
    """Write out what is printed inside, also where it leaves by ``SystemExit``.

    Raises:
        SmaugError: what standard output goes to is full.
        SystemExit: nobody reads standard output any more; with typer's exit code for that.
    """
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_the_rest()
        sys.exit(1)
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        _drop_the_rest()
        raise SmaugError(
            f"cannot print the result: {error.strerror}", fix="free the disk, or send standard output elsewhere"
        ) from error


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _drop_the_rest() -> None:
    """Keep Python from failing once more when it flushes what could not be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _NUMBERS["stdout"])
    os.close(null)


def _json_escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SIGNS.get(each) or _escaped(each) for each in error.object[error.start : error.end]), error.end


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
