"""Build a request for a judge, and change it where the judge refuses one of its parameters."""

from __future__ import annotations

from typing import Any

from smaug_eval.common.served.endpoint import Endpoint
from smaug_eval.common.served.faults import JudgeProblem, Kind

TEMPERATURE = 0.0
"""FastChat's (chat_completion_openai in common.py)."""

SYSTEM = "system"
AS_USER = "as the user's text"
_REWORDED = (400, 422)
_WANTS_STREAM = ("only support stream", "only supports stream", "non-streaming", "stream=true", "must be streamed")
_STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


class Wording:
    """Record the parameters that a judge accepts, as far as it is known.

    Args:
        endpoint: How it is called at first: FastChat's temperature and longest judgment, and the recipe's own keys.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._sent: dict[str, Any] = {"temperature": TEMPERATURE, "max_tokens": endpoint.max_tokens}
        if endpoint.reasoning_effort is not None:
            self._sent["reasoning_effort"] = endpoint.reasoning_effort
        if endpoint.stream:
            self._stream()
        self._sent |= dict(endpoint.extra_body)

    @property
    def sent(self) -> dict[str, Any]:
        """Return what a request is sent with now, as it is recorded beside each judgment."""
        return dict(self._sent)

    def arguments(self, sent: dict[str, Any], system: str, user: str) -> dict[str, Any]:
        """Return the request that ``sent`` stands for."""
        body = {key: value for key, value in sent.items() if key != SYSTEM}
        # Past the client, which would take a stream apart itself: what is no stream can come in its place.
        own = {key: body.pop(key) for key in (*_STREAM, *self._endpoint.extra_body) if key in body}
        if sent.get(SYSTEM) == AS_USER and system:
            messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
        else:
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": user})
        return {**body, "messages": messages, **({"extra_body": own} if own else {})}

    def reword(self, problem: JudgeProblem, sent: dict[str, Any], *, has_system: bool) -> str | None:
        """Change later requests where a refusal names a parameter that can be expressed otherwise.

        Args:
            problem: The refusal.
            sent: What the refused request was sent with; another may have been refused meanwhile.
            has_system: Whether it had a system message.

        Returns:
            What is otherwise now, as text; empty where it was so already; None where nothing can be.
        """
        if problem.status not in _REWORDED:
            return None
        before = dict(self._sent)
        told = self._reworded(problem, sent, has_system=has_system)
        return "" if told is not None and self._sent == before else told

    def _reworded(self, problem: JudgeProblem, sent: dict[str, Any], *, has_system: bool) -> str | None:
        if _may_say(problem, sent, "max_tokens", Kind.MAX_TOKENS, Kind.TOO_LONG):
            self._sent.pop("max_tokens", None)
            self._sent.setdefault("max_completion_tokens", sent["max_tokens"])
            return "it takes max_completion_tokens, not max_tokens"
        if _may_say(problem, sent, "temperature"):
            self._sent.pop("temperature", None)
            return "it takes no temperature 0, and judges at its own"
        if _may_say(problem, sent, "stream_options"):
            self._sent.pop("stream_options", None)
            return "it takes no stream_options"
        if not sent.get("stream") and any(words in problem.message.lower() for words in _WANTS_STREAM):
            self._stream()
            return "it answers only as a stream"
        if has_system and SYSTEM not in sent and problem.kind is Kind.SYSTEM:
            self._sent[SYSTEM] = AS_USER
            return "it takes no system message, which goes before the user's text"
        return None

    def _stream(self) -> None:
        self._sent |= _STREAM


def _may_say(problem: JudgeProblem, sent: dict[str, Any], name: str, *without: Kind) -> bool:
    return name in sent and problem.kind not in without and problem.names(name)
