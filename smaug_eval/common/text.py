"""Format values for people: untrusted characters made visible, numbers with one fixed precision each."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

NOT_AVAILABLE = "n/a"
MINUS = "−"
NAMES_SHOWN = 3

_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}  # emoji and several scripts need them to render at all
_LAYOUT = {"\n", "\t"}


def _is_noncharacter(code: int) -> bool:
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def visible(text: str) -> str:
    """Return ``text`` with every character that hides, reorders or breaks text written as ``⟨U+XXXX⟩``.

    Those are control characters (line feed and tab stay), bidirectional and other format controls, line and
    paragraph separators, lone surrogates and noncharacters.
    """

    def shown(character: str) -> str:
        if character in _LAYOUT or character in _JOINERS:
            return character
        if unicodedata.category(character) in _HIDDEN_CATEGORIES or _is_noncharacter(ord(character)):
            return f"⟨U+{ord(character):04X}⟩"
        return character

    if text.isprintable() or (text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()):
        return text
    unbroken = text.replace("\r\n", "\n")
    return "".join(character if character.isprintable() else shown(character) for character in unbroken)


def some_names(names: Iterable[str]) -> str:
    """Return up to ``NAMES_SHOWN`` names, and how many more there are."""
    every = list(dict.fromkeys(names))
    more = len(every) - NAMES_SHOWN
    return ", ".join(every[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


class Excerpt(NamedTuple):
    """Hold part of a longer text; ``length`` is that of the whole, in characters."""

    text: str
    length: int

    @property
    def is_cut(self) -> bool:
        """Return whether the text is shorter than the whole."""
        return len(self.text) < self.length


def head(text: str, limit: int) -> Excerpt:
    """Return the first ``limit`` characters."""
    return Excerpt(text[:limit], len(text))


def tail(text: str, limit: int) -> Excerpt:
    """Return the last ``limit`` characters."""
    return Excerpt(text[-limit:], len(text))


def is_missing(value: float | None) -> bool:
    """Check whether there is no number to show."""
    return value is None or not math.isfinite(value)


def fixed(value: float | None, digits: int = 1) -> str:
    """Return ``value`` with ``digits`` decimals and a real minus sign; "n/a" for None, NaN and infinities."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    rounded = f"{value:.{digits}f}"
    return rounded.lstrip("-") if float(rounded) == 0 else rounded.replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """Return the same as :func:`fixed`, with a plus sign before positive values."""
    shown = fixed(value, digits)
    return f"+{shown}" if value is not None and value > 0 and shown.strip("0.") and shown != NOT_AVAILABLE else shown


def counted(value: int | None) -> str:
    """Return a number of documents with thousands separators; "unknown" for None."""
    return "unknown" if value is None else f"{value:,}"


def bound(value: float, digits: int = 1) -> str:
    """Return an interval's end, formatted as :func:`signed` does.

    It gets up to three more decimals where it would else be shown as 0 and is not: on which side of 0 it lies decides
    the verdict.
    """
    shown = (signed(value, each) for each in range(digits, digits + 4))
    return next((each for each in shown if each.strip("0.")), signed(value, digits))


def significant(value: float | None, digits: int = 4) -> str:
    """Return ``value`` with ``digits`` significant digits, for metrics whose unit is not known."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    return f"{value:.{digits}g}".replace("-", MINUS)


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, however deep; keys are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_in(part)
