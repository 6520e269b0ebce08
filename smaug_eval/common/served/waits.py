"""Parse how long a judge wants its caller to wait before a retry, in every form that servers use."""

from __future__ import annotations

import datetime
import email.utils
import math
import re
from collections.abc import Mapping
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT = r"(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})", re.I)
_IN_WORDS = re.compile(
    r"(?:try again|retry|wait|available|resets?)\D{0,24}?\b(?:in|after|for)?\s*"
    rf"((?:\d+(?:\.\d+)?\s*{_UNIT}\s*,?\s*(?:and\s+)?)+)",
    re.I,
)
_KEYS = (
    "retry_after",
    "retryAfter",
    "retry-after",
    "retryDelay",
    "retry_delay",
    "estimated_time",
    "retry_after_seconds",
)
_HEADERS = ("retry-after-ms", "x-ms-retry-after-ms", "retry-after", "x-retry-after")
_RESETS = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-reset", "ratelimit-reset")
_EPOCH, _EPOCH_MS = 1e9, 1e12


def asked_wait(headers: Mapping[str, str], content: Any, message: str) -> float | None:
    """Return the seconds to wait before a retry by a response's headers, else its body, else its text.

    None where none of them names a time.

    Args:
        headers: Of the response, names in any case.
        content: The JSON of its body.
        message: Its words.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    for name in _HEADERS:
        found = _milliseconds(lower.get(name)) if name.endswith("-ms") else retry_after(lower.get(name))
        if found is not None:
            return found
    if (found := _in_body(content)) is not None:
        return found
    if (words := _IN_WORDS.search(message)) is not None:
        return duration(words[1])
    spent = [lower[name] for name in _RESETS if name in lower and lower.get(_remaining(name), "0").strip() == "0"]
    resets = [wait for value in spent if (wait := _reset(value)) is not None]
    return max(resets) if resets else None


def retry_after(header: str | None) -> float | None:
    """Parse a ``Retry-After`` header: a number, a duration or a date, in seconds.

    None where it is not clear.
    """
    if header is None:
        return None
    try:
        return max(0.0, float(header)) if math.isfinite(float(header)) else 0.0
    except ValueError:
        pass
    if (found := duration(header)) is not None:
        return found
    try:
        date = email.utils.parsedate_to_datetime(header)
    except (TypeError, ValueError):
        try:
            date = datetime.datetime.fromisoformat(header.strip().replace("Z", "+00:00"))
        except ValueError:
            return None
    date = date if date.tzinfo is not None else date.replace(tzinfo=datetime.timezone.utc)
    return max(0.0, (date - datetime.datetime.now(datetime.timezone.utc)).total_seconds())


def duration(text: str) -> float | None:
    """Parse a duration such as ``20s``, ``1m30.5s``, ``500 ms`` or ``2 minutes`` into seconds.

    None where it is no duration.
    """
    parts = _PART.findall(text)
    if not parts or re.sub(r"[\s,.]|\band\b", "", _PART.sub("", text)):
        return None
    names = ((number, "ms" if unit.lower().startswith(("ms", "milli")) else unit[0].lower()) for number, unit in parts)
    return sum(float(number) * _UNITS[name] for number, name in names)


def words(seconds: float) -> str:
    """Return a duration as people write it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _remaining(name: str) -> str:
    return name.replace("-reset", "-remaining")


def _milliseconds(header: str | None) -> float | None:
    try:
        value = float(header) if header is not None else math.nan
    except ValueError:
        return None
    return max(0.0, value / 1000) if math.isfinite(value) else None


def _reset(value: str) -> float | None:
    """A reset as a duration, or as a moment since 1970 in seconds or milliseconds."""
    try:
        number = float(value)
    except ValueError:
        return retry_after(value)
    if number >= _EPOCH:
        moment = number / 1000 if number >= _EPOCH_MS else number
        return max(0.0, moment - datetime.datetime.now(datetime.timezone.utc).timestamp())
    return max(0.0, number)


def _in_body(content: Any, depth: int = 0) -> float | None:
    """A wait under a key of the body, as ``retry_after`` or Google's ``retryDelay``."""
    if depth > 5:
        return None
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key in _KEYS and isinstance(value, int | float | str) and not isinstance(value, bool):
                found = retry_after(str(value))
                if found is not None:
                    return found
            if isinstance(key, str) and key.lower() in (*_HEADERS, *_RESETS) and isinstance(value, str | int | float):
                found = _reset(str(value))
                if found is not None:
                    return found
        parts: Any = content.values()
    elif isinstance(content, list):
        parts = content
    else:
        return None
    return next((wait for part in parts if (wait := _in_body(part, depth + 1)) is not None), None)
