"""Where a judge is, how it may be asked, and what it answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from smaug_eval.errors import SmaugError
from smaug_eval.mt_bench.budget import Tokens
from smaug_eval.mt_bench.config import DEFAULT_KEY_ENV, MAX_JUDGMENT_TOKENS, OPENAI_URL
from smaug_eval.redaction import keep_secret

NO_KEY = "none"
"""What is sent to endpoints that want no key."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Endpoint:
    """Where a judge is and how it may be asked.

    Attributes:
        model: Its name there, best a dated snapshot.
        base_url: Up to and including ``/v1``.
        key_env: Environment variable that holds the key.
        concurrency: Most requests under way.
        requests_per_minute: Most requests begun in a minute; None for any number.
        timeout: Seconds to wait for an answer.
        attempts: Times a call is made before it counts as failed.
        backoff: The wait before the second attempt is drawn from 0 to this many seconds; the range doubles each time.
        max_tokens: Longest judgment.
    """

    model: str
    base_url: str = OPENAI_URL
    key_env: str = DEFAULT_KEY_ENV
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout: float = 300.0
    attempts: int = 8
    backoff: float = 1.0
    max_tokens: int = MAX_JUDGMENT_TOKENS

    @property
    def is_local(self) -> bool:
        """Whether the judge runs on this machine."""
        return urlsplit(self.base_url).hostname in _LOOPBACK


@dataclass(frozen=True)
class Reply:
    """What a judge answered.

    Attributes:
        text: Its words.
        tokens: As it counts them; roughly where it does not say.
        finish_reason: ``stop``, or ``length`` where it was cut off; None where it does not say.
        served_by: The model that it says it is.
        sent: The sampling settings it accepted.
        attempts: Times the call was made.
    """

    text: str
    tokens: Tokens
    finish_reason: str | None
    served_by: str | None
    sent: dict[str, float]
    attempts: int = 1


def check_endpoint(endpoint: Endpoint) -> str:
    """Look at an endpoint's address and find its key, without asking it.

    Returns:
        The key; ``NO_KEY`` where no key is set and the endpoint is not OpenAI's.

    Raises:
        SmaugError: the address cannot be one, or OpenAI's key is not set or not a key.
    """
    parts = urlsplit(endpoint.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SmaugError(
            f"the judge's base URL {endpoint.base_url!r} is no http(s) address",
            fix="give one such as http://127.0.0.1:8000/v1",
        )
    if parts.username or parts.password:
        raise SmaugError(
            "the judge's base URL holds a user name or password, which would be recorded",
            fix=f"put the key into the environment variable {endpoint.key_env}",
        )
    key = os.environ.get(endpoint.key_env, "").strip()
    if not key and endpoint.base_url.rstrip("/") == OPENAI_URL:
        raise SmaugError(
            f"the judge's key is not set: there is no environment variable {endpoint.key_env}",
            fix="set it, name another with --judge-key-env, or give the address of another judge (--judge-base-url)",
        )
    if not (key.isascii() and key.isprintable()):
        raise SmaugError(
            f"the environment variable {endpoint.key_env} holds signs that no key has", fix="set it to the key alone"
        )
    keep_secret(key)
    return key or NO_KEY
