"""Read the log-probabilities of a prompt's own tokens from a completion with ``echo`` and ``logprobs``.

Two forms are known. OpenAI's first API, vLLM and llama-cpp-python give lists side by side (``tokens``,
``token_logprobs``, ``top_logprobs``); llama.cpp and newer servers give one object for each token (``content``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class NoEcho(Exception):
    """Report that a response does not hold the log-probabilities of its prompt."""


@dataclass(frozen=True)
class Echoed:
    """Hold one token of a prompt as the server read it.

    Attributes:
        text: Its text.
        log_prob: In nats; None for a first token, before which there is nothing.
        greedy: Whether no other token was likelier there.
    """

    text: str
    log_prob: float | None
    greedy: bool


def read_echo(content: Any, sent: int | None) -> list[Echoed]:
    """Return the tokens of a prompt, without those that were generated behind it.

    Args:
        content: JSON of the response, asked with ``echo``, ``logprobs`` and one token to write.
        sent: Tokens that were sent; None where text was sent and the server counts them.

    Raises:
        NoEcho: there are no log-probabilities, or not of as many tokens as the prompt has.
    """
    choices = content.get("choices") if isinstance(content, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    logprobs = choice.get("logprobs") if isinstance(choice, Mapping) else None
    if not isinstance(logprobs, Mapping):
        raise NoEcho("the response holds no log-probabilities")
    tokens = _objects(logprobs["content"]) if isinstance(logprobs.get("content"), list) else _lists(logprobs)
    usage = content.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    size = sent
    if size is None:
        size = counted if isinstance(counted, int) and not isinstance(counted, bool) else len(tokens) - 1
    # One token was generated, and some servers leave it out where it ends the text.
    if size < 1 or len(tokens) not in (size, size + 1):
        raise NoEcho(f"the server did not repeat the prompt: {len(tokens)} tokens came back for {size} that it read")
    for place, token in enumerate(tokens[:size]):
        if place and (token.log_prob is None or not math.isfinite(token.log_prob) or token.log_prob > 1e-3):
            raise NoEcho(f"token {place} of the prompt has the log-probability {token.log_prob}")
    return tokens[:size]


def behind(tokens: Sequence[Echoed], continuation: str) -> list[Echoed]:
    """Return the last tokens of a prompt, as many as hold a continuation.

    A token that begins before the continuation belongs to it.

    Raises:
        NoEcho: the prompt does not end with it, as where a token is a part of a sign.
    """
    text, place = "", len(tokens)
    while len(text) < len(continuation) and place > 0:
        place -= 1
        text = tokens[place].text + text
    if not text.endswith(continuation) or not text or place == 0:
        raise NoEcho(f"the server's tokens do not end with the answer {continuation[:40]!r}")
    return list(tokens[place:])


def _lists(logprobs: Mapping[str, Any]) -> list[Echoed]:
    texts, found = logprobs.get("tokens"), logprobs.get("token_logprobs")
    tops = logprobs.get("top_logprobs")
    if not isinstance(texts, list) or not isinstance(found, list) or len(texts) != len(found):
        raise NoEcho("the response holds no list of tokens with their log-probabilities")
    best = tops if isinstance(tops, list) and len(tops) == len(found) else None
    if best is None:
        raise NoEcho("the response holds no likeliest tokens (top_logprobs) beside the prompt's own")
    return [_echoed(*parts) for parts in zip(texts, found, best, strict=True)]


def _objects(content: Sequence[Any]) -> list[Echoed]:
    if not all(isinstance(each, Mapping) for each in content):
        raise NoEcho("the response's log-probabilities are none")
    return [_echoed(each.get("token"), each.get("logprob"), each.get("top_logprobs")) for each in content]


def _echoed(text: Any, log_prob: Any, top: Any) -> Echoed:
    value = float(log_prob) if isinstance(log_prob, int | float) and not isinstance(log_prob, bool) else None
    others: list[Any] = []
    if isinstance(top, Mapping):
        others = list(top.values())
    elif isinstance(top, list):
        others = [each.get("logprob") for each in top if isinstance(each, Mapping)]
    numbers = [float(each) for each in others if isinstance(each, int | float)]
    return Echoed(str(text), value, value is not None and value >= max(numbers, default=value))
