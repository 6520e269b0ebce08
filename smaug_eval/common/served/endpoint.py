"""Describe where a judge or another served model is, how it may be called, and what it answers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.redaction import keep_secret
from smaug_eval.common.served.budget import Tokens

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_KEY_ENV = "OPENAI_API_KEY"
LONGEST_WAIT = 600.0
"""Seconds; a server that asks to wait for longer is not waited for."""
MAX_TOKENS = 2048
"""FastChat's longest judgment."""
NO_KEY = "none"
"""What is sent to endpoints that want no key."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CALLED = ("/chat/completions", "/completions", "/responses")
_API_VERSION = "api-version"
_SECRET_QUERY = re.compile(r"(?:.*[_-])?(?:key|token|secret|sig|signature|password|code)", re.I)


@dataclass(frozen=True)
class Endpoint:
    """Describe where a judge is and how it may be called.

    Attributes:
        model: Its name there, best a dated snapshot.
        base_url: Up to and including ``/v1``; a query in it, and ``/chat/completions`` behind it, are understood.
        key_env: Environment variable that holds the key.
        concurrency: Most requests under way.
        requests_per_minute: Most requests begun in a minute; None for any number.
        timeout: Seconds to wait for an answer.
        attempts: Times a call is made before it counts as failed.
        backoff: The wait before the second attempt is drawn from 0 to this many seconds; the range doubles each time.
        max_tokens: Longest judgment.
        longest_wait: Most seconds that it may ask to wait.
        reasoning_effort: How long a reasoning model thinks; None to leave it to the judge.
        extra_body: Further keys of each request.
        headers: Further headers of each request.
        api_version: Azure's; None where the base URL says it, or there is none.
        stream: Whether answers are requested as a stream.
        role: What it is called in messages: ``judge``, or ``model`` where it is what is evaluated.
    """

    model: str
    base_url: str = OPENAI_URL
    key_env: str = DEFAULT_KEY_ENV
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout: float = 300.0
    attempts: int = 8
    backoff: float = 1.0
    max_tokens: int = MAX_TOKENS
    longest_wait: float = LONGEST_WAIT
    reasoning_effort: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    api_version: str | None = None
    stream: bool = False
    role: str = "judge"

    @property
    def where(self) -> str:
        """Return the judge's model and address as text."""
        return f"{self.model} at {self.base_url}"

    @property
    def where_in_words(self) -> str:
        """Return what it is called in messages, with its address."""
        return f"{self.role} {self.where}"

    @property
    def is_local(self) -> bool:
        """Return whether the judge runs on this machine."""
        return urlsplit(self.base_url).hostname in _LOOPBACK


@dataclass(frozen=True)
class Reply:
    """Hold a judge's answer.

    Attributes:
        text: Its words.
        tokens: As it counts them; roughly where it does not say.
        finish_reason: ``stop``, or ``length`` where it was cut off; None where it does not say.
        served_by: The model that it says it is.
        sent: The sampling settings it accepted.
        attempts: Times the call was made.
        reasoning: What it thought, where the endpoint separates it from its text.
    """

    text: str
    tokens: Tokens
    finish_reason: str | None
    served_by: str | None
    sent: dict[str, Any]
    attempts: int = 1
    reasoning: str = ""


@dataclass(frozen=True)
class Address:
    """Hold a base URL taken apart.

    Attributes:
        url: Without query, and without what the client adds to it.
        query: Of each request, its API version included.
        azure: Azure's API version, where the judge is reached in Azure's way: the key in a header ``api-key`` and the
            model, the deployment, in the path.
    """

    url: str
    query: dict[str, str]
    azure: str | None

    @property
    def is_bare_azure(self) -> bool:
        """Return whether the address ends before Azure's own part of the path."""
        return self.azure is not None and urlsplit(self.url).path.rstrip("/") in ("", "/openai")

    @property
    def is_deployment(self) -> bool:
        """Return whether the address names Azure's deployment."""
        return self.azure is not None and "/deployments/" in urlsplit(self.url).path


def address_of(endpoint: Endpoint) -> Address:
    """Parse the base URL."""
    parts = urlsplit(endpoint.base_url)
    path = parts.path.rstrip("/")
    for called in _CALLED:
        path = path.removesuffix(called)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    version = endpoint.api_version or query.get(_API_VERSION)
    if version is not None:
        query[_API_VERSION] = version
    return Address(urlunsplit((parts.scheme, parts.netloc, path, "", "")), query, version)


def header_values(endpoint: Endpoint) -> dict[str, str]:
    """Return the further headers, each ``$NAME`` in them replaced by the environment variable of that name.

    Raises:
        SmaugError: there is no such variable, or a header holds what none can.
    """
    found = {}
    for name, value in endpoint.headers.items():
        if value.startswith("$"):
            variable = value[1:].strip("{}")
            value = os.environ.get(variable, "").strip()
            if not value:
                raise SmaugError(
                    f"the {endpoint.role}'s header {name}: there is no environment variable {variable}",
                    fix="set the variable",
                )
            keep_secret(value)
        if not (value.isascii() and value.isprintable() and re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name)):
            raise SmaugError(
                f"the {endpoint.role}'s header {name[:80]!r} holds signs that no header has", fix="correct headers"
            )
        found[name] = value
    return found


def check_address(base_url: str, key_env: str, role: str = "judge") -> None:
    """Check a base URL.

    Raises:
        SmaugError: it cannot be one, or holds a key, which would be recorded.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SmaugError(
            f"the {role}'s base URL {base_url!r} is no http(s) address",
            fix="give one such as http://127.0.0.1:8000/v1",
        )
    if parts.username or parts.password:
        raise SmaugError(
            f"the {role}'s base URL holds a user name or password, which would be recorded",
            fix=f"put the key into the environment variable {key_env}",
        )
    for name, value in parse_qsl(parts.query):
        if value and _SECRET_QUERY.fullmatch(name):
            keep_secret(value)
            raise SmaugError(
                f"the {role}'s base URL holds a key ({name}=...), which would be recorded",
                fix=f"put it into the environment variable {key_env}, or into another that headers name "
                "(headers.NAME=$VARIABLE)",
            )


def check_endpoint(endpoint: Endpoint) -> str:
    """Check an endpoint's address and find its key, without a request.

    Returns:
        The key; ``NO_KEY`` where no key is set and the endpoint is not OpenAI's.

    Raises:
        SmaugError: the address cannot be one, or OpenAI's key is not set or not a key.
    """
    check_address(endpoint.base_url, endpoint.key_env, endpoint.role)
    header_values(endpoint)
    key = os.environ.get(endpoint.key_env, "").strip()
    if not key and address_of(endpoint).url == OPENAI_URL:
        raise SmaugError(
            f"the {endpoint.role}'s key is not set: there is no environment variable {endpoint.key_env}",
            fix="set it, name another with --judge-key-env, or give the address of another judge (--judge-base-url)"
            if endpoint.role == "judge"
            else "set it, name another variable (key_env), or give the address of another server (base_url)",
        )
    if not (key.isascii() and key.isprintable()):
        raise SmaugError(
            f"the environment variable {endpoint.key_env} holds signs that no key has", fix="set it to the key alone"
        )
    keep_secret(key)
    return key or NO_KEY
