"""Check whether the Hub can be used from here: its address, the token, the cache, Xet's storage, a proxy."""

from __future__ import annotations

import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from smaug_eval.common.hub_cache import cache_folder
from smaug_eval.common.hub_errors import Cause, cause_of, endpoint, has_token, is_offline, status_of
from smaug_eval.common.hub_requests import get_json
from smaug_eval.common.redaction import redacted

TIMEOUT_SECONDS = 5.0
_ANY_MODEL = "openai-community/gpt2"
_OUT_OF_ORDER = 500
_UNKNOWN = 401


@dataclass(frozen=True)
class HubAnswer:
    """Describe what the Hub answers to a first request.

    Attributes:
        endpoint: Its address.
        obstacle: Why it cannot be used; None where it answers.
        user: Whose the token is; None where there is no token, or the Hub does not know it.
        refused: Why the token is refused; None where it is not.
    """

    endpoint: str
    obstacle: Cause | None = None
    user: str | None = None
    refused: Cause | None = None


@dataclass(frozen=True)
class CacheState:
    """Describe the cache of repositories.

    Attributes:
        place: Its folder.
        free: Bytes that are free there.
        is_writable: Whether something can be added.
    """

    place: Path
    free: int
    is_writable: bool


def ask_hub() -> HubAnswer:
    """Ask the Hub who we are, or without a token for some model; any answer of its own will do."""
    place, shown = endpoint(), redacted(endpoint())
    if is_offline():
        return HubAnswer(shown, Cause("offline by HF_HUB_OFFLINE", "use local models and data_root, or unset it"))
    address = f"{place}/api/whoami-v2" if has_token() else f"{place}/api/models/{_ANY_MODEL}"
    try:
        found, _ = get_json(address, TIMEOUT_SECONDS)
    except Exception as error:  # of the HTTP client, of many kinds
        cause, status = cause_of(error), status_of(error)
        if status == _UNKNOWN and has_token():
            return HubAnswer(shown, refused=cause)
        if status is None or status >= _OUT_OF_ORDER or not _is_of_the_hub(error):
            return HubAnswer(shown, cause)
        return HubAnswer(shown)  # it answers, but does not hold this model, as an own Hub may
    name = found.get("name") if isinstance(found, dict) and has_token() else None
    return HubAnswer(shown, user=None if name is None else str(name))


def cache_state() -> CacheState:
    """Return where the cache is, and what room it has."""
    place = near = cache_folder()
    while not near.exists():
        near = near.parent
    return CacheState(place, shutil.disk_usage(near).free, os.access(near, os.W_OK))


def xet_state() -> tuple[bool, str]:
    """Return whether Xet's storage is used for large files, and a remark on it."""
    from importlib.metadata import PackageNotFoundError, version

    from huggingface_hub import constants

    try:
        found = f"hf_xet {version('hf_xet')}"
    except PackageNotFoundError:
        return False, "hf_xet is not installed; large files come over plain HTTP"
    if constants.HF_HUB_DISABLE_XET:
        return False, f"{found}, switched off by HF_HUB_DISABLE_XET; large files come over plain HTTP"
    return True, found


def proxy() -> str | None:
    """Return the proxy that requests to the Hub go through, without a password; None for none."""
    parts = urlsplit(endpoint())
    found = urllib.request.getproxies()
    address = found.get(parts.scheme) or found.get("all")
    if not address or urllib.request.proxy_bypass(parts.netloc):
        return None
    at = urlsplit(address if "://" in address else f"http://{address}")
    return f"{at.scheme}://{at.hostname}" + (f":{at.port}" if at.port else "")


def _is_of_the_hub(error: Exception) -> bool:
    """Whether an error that is an answer is the Hub's own, rather than that of something on the way."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", {})
    return "json" in str(headers.get("Content-Type", "")) or "X-Error-Code" in headers or "X-Error-Message" in headers
