"""Keep keys out of every text that leaves the program: messages, logs, tracebacks, records and reports.

What counts as a key is the value of an environment variable whose name says so (``HF_TOKEN``, ``WANDB_API_KEY``, ...),
a value that was given to :func:`keep_secret` (the judge's key, whatever its variable is called), and, in messages and
logs, what has the form of one: ``api_key=...``, ``Bearer ...``, ``https://user:password@host``, or the signature of an
address (``X-Amz-Signature=...``).

A key that is an ordinary word (``ollama``: local servers are given such keys) is masked in messages and logs
only. In data it would be found where it is no key, in a model's answer or name, and masking it would change a result.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

MASK = "***"
SHORTEST = 6
"""Characters of the shortest key that is looked for: a shorter one would be found in ordinary words."""

_VARIABLE = re.compile(
    r"(?:.*_)?(?:api_?key|token|secret|secret_?key|access_?key|private_?key|password|passwd|auth)", re.I
)
_KEY_NAME = (
    r"(?:[\w-]*[_-])?(?:api[_-]?key|secret|secret[_-]?key|access[_-]?key|password|passwd|authorization)"
    r"|(?:(?:hf|hub|auth|api|access|bearer|judge|wandb)[_-])?token"
)
_NAMED = re.compile(_KEY_NAME, re.I)
_FORMS = (
    r"(?P<userinfo>(?<=://)[^\s/@:]{0,200}:[^\s/@]{1,200}(?=@))",
    r"(?P<bearer>(?<=Bearer )[^\s\"',;}]{6,})",
    rf"(?P<setting>(?<![\w-])(?:{_KEY_NAME})[\"']?\s*[=:]\s*[\"']?(?!Bearer |None\b|null\b)"
    r"(?P<value>[^\s\"',;&}]{6,}))",
    r"(?P<signature>(?<=[?&])(?:(?:X-Amz-|X-Goog-)?(?:Signature|Credential|Security-Token)|Key-Pair-Id|Policy)"
    r"=[^\s&\"'<>)]{6,})",
    r"(?P<own>\b(?:sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,})\b)",
)
_FORM = re.compile("|".join(_FORMS), re.I)
_FORM_BYTES = re.compile("|".join(_FORMS).encode(), re.I)
_WINDOW, _OVERLAP = 1 << 20, 1 << 12
_WORD = re.compile(r"[A-Z]?[a-z]{1,19}|[A-Z]{1,20}")
"""A key that is a word."""

_kept: set[str] = set()


def keep_secret(value: str) -> None:
    """Treat ``value`` as a key from now on.

    One shorter than ``SHORTEST`` characters looks like a word and is not kept.
    """
    if len(value) >= SHORTEST:
        _kept.add(value)


def keep_settings_secret(value: Any, name: str = "") -> None:
    """Treat as keys the values under names such as ``api_key`` or ``hf_token``, and those in addresses."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            keep_settings_secret(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            keep_settings_secret(part, name)
    elif isinstance(value, str):
        if _NAMED.fullmatch(name):
            keep_secret(value)
        for found in _FORM.finditer(value):
            password = found["userinfo"].partition(":")[2] if found["userinfo"] else None
            keep_secret(password or found["value"] or found["bearer"] or found["own"] or "")


def secrets() -> set[str]:
    """Return every key that is known at this moment."""
    from_environment = {os.environ.get(name, "").strip() for name in os.environ if _is_for_a_key(name)}
    return {value for value in _kept | from_environment if len(value) >= SHORTEST}


def without_keys(text: str) -> str:
    """Return ``text`` with every known key masked, unless it is an ordinary word, and nothing else changed.

    It is meant for data, where a form alone proves nothing.
    """
    return _replaced(text, _longest_first(words=False))


def redacted(text: str) -> str:
    """Return ``text`` with every known key masked, and all that has the form of one: for messages and logs."""
    return _FORM.sub(_masked, _replaced(text, _longest_first()))


def redacted_record(text: str) -> str:
    """Return a text of a record with keys and all that has the form of one masked, but no ordinary word."""
    return _FORM.sub(_masked, without_keys(text))


def redacted_values(value: Any, name: str = "") -> Any:
    """Return plain data for a file with keys masked.

    Texts pass through :func:`redacted_record`, and those under names such as ``hf_token`` are masked whole.
    """
    if isinstance(value, Mapping):
        return {_key(key): redacted_values(part, str(key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(part, name) for part in value]
    if isinstance(value, str):
        return MASK if value and _NAMED.fullmatch(name) else redacted_record(value)
    return value


def values_without_keys(value: Any) -> Any:
    """Return plain data with every known key masked, unless it is an ordinary word, and nothing else changed.

    Where there is no key, the same object is returned.
    """
    known = _longest_first(words=False)

    def clean(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {clean(key): clean(each) for key, each in part.items()}
        if isinstance(part, list | tuple):
            return [clean(each) for each in part]
        return _replaced(part, known) if isinstance(part, str) else part

    return clean(value) if known else value


def mask_file(path: Path, start: int = 0) -> None:
    """Overwrite keys in a log with asterisks, in place, so that a process that appends to it is not disturbed.

    For what child processes and compiled code wrote: it did not pass through this program.

    Args:
        path: The log; one that is not there has no keys.
        start: Byte to begin at.
    """
    known = [secret.encode() for secret in _longest_first()]
    try:
        with path.open("r+b") as file:
            place = file.seek(max(0, start - _OVERLAP)) if start else 0
            while window := file.read(_WINDOW):
                for begin, end in _spans(window, known):
                    file.seek(place + begin)
                    file.write(b"*" * (end - begin))
                if len(window) < _WINDOW:
                    return
                place = file.seek(place + len(window) - _OVERLAP)
    except OSError:
        return


def hide_keys_in_tracebacks() -> None:
    """Print uncaught errors, of threads too, without keys."""

    def print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        print(redacted("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)

    def print_thread_error(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            print_error(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    sys.excepthook = print_error
    threading.excepthook = print_thread_error


@lru_cache(maxsize=4096)
def _is_for_a_key(variable: str) -> bool:
    return bool(_VARIABLE.fullmatch(variable))


def _longest_first(words: bool = True) -> list[str]:
    known = secrets()
    return sorted(known if words else (key for key in known if not _WORD.fullmatch(key)), key=len, reverse=True)


def _replaced(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, MASK)
    return text


def _masked(found: re.Match[str]) -> str:
    if found["setting"]:
        return found["setting"][: -len(found["value"])] + MASK
    return MASK


def _key(key: Any) -> Any:
    return redacted_record(key) if isinstance(key, str) else key


def _spans(window: bytes, known: list[bytes]) -> list[tuple[int, int]]:
    spans = [found.span("value" if found["setting"] else 0) for found in _FORM_BYTES.finditer(window)]
    for secret in known:
        begin = window.find(secret)
        while begin >= 0:
            spans.append((begin, begin + len(secret)))
            begin = window.find(secret, begin + 1)
    return spans
