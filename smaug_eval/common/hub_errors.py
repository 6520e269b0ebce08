"""Describe what went wrong between this machine and the Hub, in one screen: what, where, why, and what to do.

The client libraries (``huggingface_hub`` on ``httpx2``, ``hf_xet``, ``datasets``, ``requests``) raise errors of many
kinds for the same trouble. They are told apart by their status, their number and their words here, and nowhere else.
"""

from __future__ import annotations

import errno
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Literal

from smaug_eval.common.errors import SmaugError

Kind = Literal["model", "dataset"]

WORDS: dict[Kind, str] = {"model": "model", "dataset": "data set"}
CLIENTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp", "huggingface_hub"})
"""Libraries whose errors are those of a request."""

_ADDRESS = re.compile(r"https?://\S+")
_OUT_OF_ORDER = 500
_LONGEST = 300
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_UNREACHED = {"ConnectError", "ConnectTimeout", "ConnectTimeoutError", "NewConnectionError", "ConnectionRefusedError"}
_INVALID = "invalid credentials", "invalid username or password"
_AGAIN = "run the same command again: it continues with what has arrived"


class NotReached(SmaugError):
    """Report that something is not in the cache, and that the Hub does not answer or must not be asked."""


class LoginPage(ValueError):
    """Report an answer that is a web page where JSON or a file was expected."""


class TooManyRequests(Exception):
    """Report that the Hub asks to wait longer than a command should."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the Hub asks to wait {seconds:.0f} seconds")
        self.seconds = seconds


class XetFailed(Exception):
    """Report that Xet's storage cannot be read, and neither can the same file over plain HTTP."""


@dataclass(frozen=True)
class Cause:
    """State why something failed.

    Attributes:
        text: In a few words.
        fix: What to do about it.
        no_answer: Whether the Hub did not answer, or said that it is out of order; a cache may be used instead.
        passes: Whether the next attempt, a moment later, may well succeed.
    """

    text: str
    fix: str
    no_answer: bool = False
    passes: bool = False


def is_network_error(error: BaseException) -> bool:
    """Check whether an error is that of a request, by whatever library."""
    return any(type(each).__module__.partition(".")[0] in CLIENTS for each in chain(error)) or any(
        isinstance(each, ConnectionError | TimeoutError | ssl.SSLError) for each in chain(error)
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ if error.__cause__ is not None or error.__suppress_context__ else error.__context__


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that an error is about; None without one."""
    for each in chain(error):
        status = getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that the Hub asks to wait, by ``Retry-After`` or its rate limit's headers."""
    for each in chain(error):
        headers = getattr(getattr(each, "response", None), "headers", None)
        if headers is None:
            continue
        value = str(headers.get("Retry-After") or "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value)
        if value:
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time())
            except (ValueError, TypeError):
                pass
        limit = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", str(headers.get("RateLimit") or ""))
        if limit is not None:
            return float(limit[1])
    return None


def cause_of(error: BaseException) -> Cause:
    """Find why a request, or what it wrote to the disk, failed."""
    return _of_status(error) or _of_errno(error) or _of_connection(error) or _of_words(error)


def reason(error: BaseException) -> str:
    """Return what an error says, in one line, without addresses: they may be signed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = _ADDRESS.sub("(address)", lines[0]) if lines else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def endpoint() -> str:
    """Return the Hub's address: ``HF_ENDPOINT``, or the public one."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def has_token() -> bool:
    """Check whether a token is set, in the environment or by ``hf auth login``."""
    from huggingface_hub import get_token

    return bool(get_token())


def is_offline() -> bool:
    """Check whether ``HF_HUB_OFFLINE`` forbids requests to the Hub."""
    from huggingface_hub import constants

    return bool(constants.is_offline_mode())


def _of_status(error: BaseException) -> Cause | None:
    status = status_of(error)
    if status is None:
        return None
    said = _said(error)
    text = f"HTTP {status}" + (f" ({said})" if said and status < _OUT_OF_ORDER else "")
    if status == 401 and (has_token() or any(words in said.lower() for words in _INVALID)):
        return Cause(text, "correct HF_TOKEN or the stored login, or remove it: the Hub does not know this token")
    if status == 401:
        return Cause(text, "set HF_TOKEN: the Hub wants to know who asks")
    if status == 403:
        fix = "give HF_TOKEN the right to read this" if has_token() else "set HF_TOKEN to a token that may read this"
        return Cause(text, f"{fix}; behind a proxy or firewall, have {endpoint()} and its storage allowed")
    if status == 407:
        return Cause(f"{text}: the proxy asks for a password", "put user and password into HTTPS_PROXY")
    if status == 429:
        seconds = retry_after(error)
        wait = f" at least {seconds:.0f} seconds" if seconds else ""
        more = "" if has_token() else "; with HF_TOKEN set it allows more"
        return Cause(text, f"wait{wait}: the Hub limits how much is asked in a while{more}", passes=True)
    if status == 408 or status >= _OUT_OF_ORDER:
        return Cause(text, "try again later: the Hub, or something before it, is out of order", True, True)
    return Cause(text, f"check the name, and HF_ENDPOINT ({endpoint()})")


def _of_errno(error: BaseException) -> Cause | None:
    from huggingface_hub import constants

    numbers = {each.errno for each in chain(error) if isinstance(each, OSError)}
    words = " ".join(str(each) for each in chain(error)).lower()
    cache = constants.HF_HUB_CACHE
    if numbers & _FULL or "no space left" in words or "disk quota" in words:
        return Cause("no space left on the disk", f"free some space in {cache}, or set HF_HOME to a larger disk")
    files = [each for each in chain(error) if isinstance(each, OSError) and each.errno in _CLOSED and each.filename]
    if files:
        return Cause(
            f"{files[0].filename} cannot be written ({files[0].strerror})",
            f"make the cache writable ({cache}), or set HF_HOME to a folder that is",
        )
    return None


def _of_connection(error: BaseException) -> Cause | None:
    names = [type(each).__name__ for each in chain(error)]
    words = " ".join(str(each) for each in chain(error)).lower()
    if any(isinstance(each, TooManyRequests) for each in chain(error)):
        return Cause(reason(error), "wait as long, or set HF_TOKEN: with it the Hub allows more")
    if "OfflineModeIsEnabled" in names:
        return Cause("HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE", no_answer=True)
    if "UnsupportedProtocol" in names or "InvalidURL" in names or "LocalProtocolError" in names:
        return Cause(f"HF_ENDPOINT is {endpoint()!r}, which is no address", "let it begin with https:// or http://")
    if "ProxyError" in names:
        return Cause("the proxy refuses", "correct HTTPS_PROXY and NO_PROXY", no_answer=True)
    if "certificate" in words and ("ssl" in words or "verify" in words):
        return Cause(
            "its certificate cannot be verified",
            "set SSL_CERT_FILE to the certificates of your network; a proxy that reads along has its own",
            no_answer=True,
        )
    if any(words_ in words for words_ in ("name or service not known", "name resolution", "getaddrinfo", "nodename")):
        return Cause("its name cannot be resolved", f"check the network, and HF_ENDPOINT ({endpoint()})", True)
    if unreached := next((name for name in names if name in _UNREACHED), None):
        late = ": no connection in time" if "Timeout" in unreached else ""
        return Cause(f"{unreached}{late}", _check_network(), no_answer=True)
    if any("Timeout" in name for name in names):
        return Cause("it does not answer in time", _check_network(), no_answer=True, passes=True)
    if any(isinstance(each, LoginPage | json.JSONDecodeError) for each in chain(error)):
        return Cause(
            "the answer is a web page or something else, not the Hub's: a network that asks to sign in, or a proxy",
            f"sign in to the network in a browser, or correct HTTPS_PROXY and HF_ENDPOINT ({endpoint()})",
            no_answer=True,
        )
    return None


def _of_words(error: BaseException) -> Cause:
    text = reason(error)
    modules = {type(each).__module__.partition(".")[0] for each in chain(error)}
    if isinstance(error, XetFailed) or "xet" in text.lower():
        return Cause(
            f"Xet's storage cannot be read: {text}",
            "set HF_HUB_DISABLE_XET=1, which fetches over plain HTTP, or have Xet's host allowed by the firewall",
            passes=True,
        )
    if modules & (CLIENTS - {"huggingface_hub"}) or any(isinstance(each, ConnectionError) for each in chain(error)):
        first = next((type(e).__name__ for e in chain(error) if type(e).__module__.split(".")[0] in CLIENTS), "")
        return Cause(f"the connection broke off ({first or type(error).__name__})", _AGAIN, True, True)
    if "consistency check failed" in text.lower():
        return Cause("the connection broke off", _AGAIN, True, True)
    return Cause(text, _AGAIN)


def _check_network() -> str:
    return f"check the network, HTTPS_PROXY, and HF_ENDPOINT ({endpoint()})"


def _said(error: BaseException) -> str:
    for each in chain(error):
        if said := getattr(each, "server_message", None):
            return _ADDRESS.sub("(address)", " ".join(str(said).split()))[:_LONGEST]
    return ""
