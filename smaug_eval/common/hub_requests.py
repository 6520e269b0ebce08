"""Send requests to the Hub: with a time limit, retried where that helps, and never where nobody answers."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from smaug_eval.common.hub_errors import Kind, LoginPage, TooManyRequests, cause_of, endpoint, retry_after, status_of

T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection."""
SHORT_TIMEOUT = 4.0
"""Seconds where a cached answer would do."""
LONGEST_WAIT = 300.0
"""Seconds that ``Retry-After`` may ask for: the Hub counts requests by five minutes."""
SILENCE = 900.0
"""Seconds for which a Hub that did not answer is not asked for what the cache has, too."""
SILENT_SINCE = "SMAUG_HUB_SILENT_SINCE"
"""Environment variable that says since when the Hub does not answer (seconds of the clock, as ``time.time``): processes
that this one starts do not find out again."""
_WAITS = (0.5, 1.0, 2.0)
_SHORT_WAITS = (0.5, 1.0)
_TIMEOUT_TRIES = 2
_SHOWN_WAIT = 3.0


def timeout(*, cached: bool = False) -> float:
    """Return the seconds to wait for an answer.

    Args:
        cached: Whether something in the cache would do instead.
    """
    from huggingface_hub import constants

    own = float(constants.HF_HUB_ETAG_TIMEOUT)
    return min(own, SHORT_TIMEOUT) if cached else own


def limits(seconds: float) -> Any:
    """Return how long the HTTP client waits, as httpx takes it: some seconds for an answer, fewer for a connection."""
    return min(seconds, CONNECT_TIMEOUT), seconds, seconds, seconds


def retried(what: str, call: Callable[[float], T], *, cached: bool = False) -> T:
    """Call a request and return its result; retry it after a broken connection, 408, 429 and 5xx.

    The waits grow, and ``Retry-After`` is obeyed. Where nobody listens, or the answer is no, it is not made again.

    Args:
        what: What is asked for, for the log.
        call: The request; receives the seconds to wait for an answer, half of them where the first went by.
        cached: Whether something in the cache would do instead: then it is not worth long waits.

    Raises:
        TooManyRequests: the Hub asks to wait longer than ``LONGEST_WAIT``.
        Exception: what ``call`` raised at last.
    """
    waits = iter(_SHORT_WAITS if cached else _WAITS)
    slow = 0
    while True:
        try:
            if cached:
                _refuse_nameless(CONNECT_TIMEOUT)
            result = call(timeout(cached=cached) / (slow + 1))
        except Exception as error:
            cause = cause_of(error)
            slow += "Timeout" in type(error).__name__
            wait = next(waits, None)
            if not cause.passes or wait is None or slow >= (1 if cached else _TIMEOUT_TRIES):
                note_failure(error)
                raise
            pause(what, error, wait, cached=cached)
        else:
            note_answer(answered=True)
            return result


def pause(what: str, error: Exception, wait: float, *, cached: bool = False) -> None:
    """Wait before the next attempt, at least as long as the Hub asks.

    Raises:
        TooManyRequests: that is too long.
    """
    asked = retry_after(error) or 0.0
    if asked > LONGEST_WAIT or (cached and asked > SHORT_TIMEOUT):
        raise TooManyRequests(asked) from error
    seconds = max(wait, asked)
    level = logging.WARNING if seconds >= _SHOWN_WAIT else logging.INFO
    log.log(level, "%s: %s; trying again in %.0f seconds", what, cause_of(error).text, seconds)
    time.sleep(seconds)


def note_answer(*, answered: bool) -> None:
    """Note whether the Hub answered, for this process and those that it starts."""
    if answered:
        os.environ.pop(SILENT_SINCE, None)
    else:
        os.environ[SILENT_SINCE] = repr(time.time())  # rounded up, it would lie ahead of the next look


def note_failure(error: BaseException) -> None:
    """Note that the Hub did not answer, if that is what an error means; 5xx is an answer."""
    note_answer(answered=status_of(error) is not None or not cause_of(error).no_answer)


def is_silent() -> bool:
    """Check whether the Hub did not answer a while ago, when this process or the one that started it asked."""
    try:
        return 0.0 <= time.time() - float(os.environ.get(SILENT_SINCE, "")) < SILENCE
    except ValueError:
        return False


def listing(kind: Kind, hub_id: str, commit: str, *, cached: bool = False) -> list[dict[str, Any]]:
    """Return the files of a commit as the Hub lists them.

    Args:
        kind: ``model`` or ``dataset``.
        hub_id: ``organisation/name``.
        commit: The commit's full id.
        cached: Whether something in the cache would do instead.

    Raises:
        Exception: of the HTTP client or of ``huggingface_hub``.
    """
    first = f"{endpoint()}/api/{kind}s/{hub_id}/tree/{quote(commit, safe='')}?recursive=true&expand=false"
    return [
        entry
        for page in _pages(f"the files of {hub_id}", first, cached)
        for entry in page
        if entry.get("type") == "file" and isinstance(entry.get("path"), str)
    ]


def get_json(address: str, seconds: float) -> tuple[Any, Any]:
    """Get the JSON that an address of the Hub answers, and the response.

    Args:
        address: With its query.
        seconds: To wait for an answer.

    Raises:
        LoginPage: it is no JSON.
        Exception: of the HTTP client or of ``huggingface_hub``.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers(library_name="smaug-eval")
    response = get_session().get(address, headers=headers, timeout=limits(seconds))
    hf_raise_for_status(response)
    try:
        return response.json(), response
    except ValueError as error:
        raise LoginPage(f"{address} does not answer with JSON") from error


def _refuse_nameless(seconds: float) -> None:
    """Look up the Hub's name with a time limit, which the system's own look-up does not have.

    Raises:
        OSError: it cannot be resolved, or not in time.
    """
    parts = urlsplit(endpoint())
    host = parts.hostname
    if host is None or parts.scheme in urllib.request.getproxies():
        return  # the proxy looks it up
    ended: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, parts.port or parts.scheme)
            ended.put(None)
        except OSError as error:
            ended.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"name resolution of {host} takes more than {seconds:.0f} seconds") from None
    if error is not None:
        raise error


def _pages(what: str, address: str, cached: bool) -> Iterator[list[dict[str, Any]]]:
    place = endpoint()
    while True:
        found, response = retried(what, lambda seconds, at=address: get_json(at, seconds), cached=cached)  # type: ignore[misc]
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise LoginPage("the Hub's listing is no list")
        yield found
        following = response.links.get("next", {}).get("url")
        if not following:
            return
        address = str(following)
        if not address.startswith(f"{place}/"):  # a mirror's may name the Hub itself; the token stays here
            here, there = urlsplit(place), urlsplit(address)
            address = urlunsplit((here.scheme, here.netloc, there.path, there.query, ""))
