"""Read a judge's response: one JSON object or a stream of them, content as a text or in parts, and why it is empty."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from smaug_eval.common.served.budget import Tokens
from smaug_eval.common.served.faults import Kind, parsed
from smaug_eval.common.thinking import split_thinking

_THINKING_PARTS = ("thinking", "reasoning", "reasoning_content", "redacted_thinking")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class Completion:
    """Hold the content of a response.

    Attributes:
        text: The judgment; empty where there is none.
        reasoning: What the judge thought, where the endpoint separates it from the text.
        finish_reason: Why it stopped; None where it does not say.
        served_by: The model that it says it is.
        lacking: Why there is no judgment, as text; None where there is one.
        kind: What ``lacking`` is about; None where asking again may help.
    """

    text: str
    reasoning: str
    finish_reason: str | None
    served_by: str | None
    lacking: str | None = None
    kind: Kind | None = None


def merged_stream(body: str) -> str:
    """Return a body of server-sent events as the JSON of one chat completion; any other body as it is.

    Deltas are joined; the last ``usage``, ``finish_reason`` and error count.
    """
    start = body.lstrip("\ufeff \r\n\t")
    if not start.startswith(("data:", "event:", "id:", ": ", ":\n", ":\r", "retry:")):
        return body
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": None}
    for event in _events(body):
        content = parsed(event)
        if not isinstance(content, Mapping):
            continue
        if content.get("error") or content.get("object") == "error":
            return event
        whole |= {key: value for key, value in content.items() if key not in ("choices", "usage") or value}
        choices = content.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        if isinstance(first, Mapping):
            _join(choice, message, first)
    return json.dumps({**whole, "choices": [choice]}) if whole else body


def read_completion(content: Any, max_tokens: int) -> Completion | None:
    """Read the JSON of a response; None where it is no chat completion.

    Args:
        content: Of the body.
        max_tokens: The limit that the judge was given.
    """
    if not isinstance(content, Mapping):
        return None
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        return None
    message = choice.get("message")
    if not isinstance(message, Mapping):
        if not isinstance(choice.get("text"), str):
            return None
        message = {"content": choice["text"]}
    if "content" not in message and not any(message.get(key) for key in ("refusal", "tool_calls", *_REASONING_KEYS)):
        return None
    text, reasoning = message_texts(message)
    finish = choice.get("finish_reason")
    finish = finish if isinstance(finish, str) else None
    lacking, kind = _lacking(text, reasoning, finish, message, choice, max_tokens)
    served_by = content.get("model")
    return Completion(
        text if lacking is None else "",
        reasoning,
        finish,
        served_by if isinstance(served_by, str) else None,
        lacking,
        kind,
    )


def usage_of(content: Any, otherwise: Tokens) -> Tokens:
    """Return the tokens used according to a body; ``otherwise`` where it does not hold them."""
    usage = content.get("usage") if isinstance(content, Mapping) else None
    if not isinstance(usage, Mapping):
        return otherwise
    prompt, completion = (_count(usage, *names) for names in (_PROMPT, _COMPLETION))
    total = _count(usage, "total_tokens")
    if completion is None and total is not None and prompt is not None:
        completion = max(0, total - prompt)
    return Tokens(
        otherwise.prompt if prompt is None else prompt, otherwise.completion if completion is None else completion
    )


_PROMPT, _COMPLETION = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")


def _lacking(
    text: str, reasoning: str, finish: str | None, message: Mapping[str, Any], choice: Mapping[str, Any], limit: int
) -> tuple[str | None, Kind | None]:
    """Why a message holds no judgment, and what that is about."""
    refusal = message.get("refusal")
    thinking = split_thinking(text)
    if text.strip() and (thinking.finished or thinking.answer):
        if thinking.answer.strip():
            return None, None
    elif isinstance(refusal, str) and refusal.strip():
        return f"the judge refuses: {' '.join(refusal.split())}", Kind.REFUSED
    if finish == "content_filter":
        return f"the content filter stopped the judge{_filter_words(choice)}", Kind.FILTER
    if reasoning.strip() or thinking.found:
        if finish == "length" or not thinking.finished:
            return f"the judge thought until its limit of {limit:,} tokens and gave no judgment", Kind.THOUGHT
        return "the judge thought and gave no judgment", Kind.THOUGHT
    if finish == "length":
        return f"the judge reached its limit of {limit:,} tokens and gave no judgment", Kind.THOUGHT
    if message.get("tool_calls") or message.get("function_call"):
        return "the judge called a tool instead of giving a judgment", Kind.REFUSED
    return "the judgment is empty", None


def _filter_words(choice: Mapping[str, Any]) -> str:
    """Which filters struck, in Azure's form."""
    results = choice.get("content_filter_results")
    struck = [
        name for name, found in results.items() if isinstance(found, Mapping) and found.get("filtered") is True
    ] if isinstance(results, Mapping) else []  # fmt: skip
    return f": {', '.join(map(str, struck))}" if struck else ""


def message_texts(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the text of a message and what was thought before, in a key of its own or among the content's parts."""
    text, in_parts = content_texts(message.get("content"))
    own = (found for key in _REASONING_KEYS if isinstance(found := message.get(key), str) and found)
    return text, next(own, in_parts)


def content_texts(content: Any) -> tuple[str, str]:
    """Return the text of a message's content, which may be in parts, and the thinking among them."""
    if isinstance(content, str):
        return content, ""
    parts = content if isinstance(content, list) else [content] if isinstance(content, Mapping) else []
    text: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, Mapping):
            inner = next(
                (part[key] for key in ("text", "value", "content", "thinking", "reasoning") if part.get(key)), ""
            )
            words = content_texts(inner)[0] if not isinstance(inner, str) else inner
            (thoughts if part.get("type") in _THINKING_PARTS else text).append(words)
    return "".join(text), "".join(thoughts)


def _join(choice: dict[str, Any], message: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Add one chunk of a stream to the message."""
    delta = part.get("delta") or part.get("message")
    if isinstance(delta, Mapping):
        text, thoughts = content_texts(delta.get("content"))
        message["content"] += text
        for key in _REASONING_KEYS:
            piece = delta.get(key)
            if isinstance(piece, str) and piece:
                thoughts = piece
                break
        if thoughts:
            message["reasoning_content"] = message.get("reasoning_content", "") + thoughts
        if isinstance(delta.get("refusal"), str):
            message["refusal"] = message.get("refusal", "") + delta["refusal"]
        if delta.get("tool_calls"):
            message["tool_calls"] = delta["tool_calls"]
    elif isinstance(part.get("text"), str):
        message["content"] += part["text"]
    for key in ("finish_reason", "error", "content_filter_results"):
        if part.get(key):
            choice[key] = part[key]


def _events(body: str) -> Iterator[str]:
    """The data of server-sent events (WHATWG HTML, section 9.2)."""
    data: list[str] = []
    for line in [*body.lstrip("\ufeff").splitlines(), ""]:
        if not line.strip():
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
