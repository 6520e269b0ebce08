"""Parse a judge's verdict from its text: by FastChat's rule, which is the score of record, and strictly.

FastChat takes the first number in ``[[ ]]``, else the first in ``[ ]``, whatever it is. The strict reader takes the
last verdict, wants it between 1 and 10, and rather says nothing than take a list index or a footnote for a rating.

What a reasoning judge thinks (``<think>...</think>``) is no part of what it decided: neither rule reads it. What
FastChat's rule makes of the whole text, as show_result has it, stands beside the score. A set of questions whose
judges answer in another form, such as JSON, has a verdict pattern of its own.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from smaug_eval.common.thinking import split_thinking
from smaug_eval.mt_bench.config import JSON
from smaug_eval.mt_bench.files.records import FAILED, Score

LOWEST, HIGHEST = 1, 10
"""The scale in MT-Bench's judge prompts."""

# As in FastChat's common.py, but that \d+\.?\d* is written so that it takes linear time.
_FIRST = re.compile(r"\[\[(\d+(?:\.\d*)?)\]\]")
_FIRST_BACKUP = re.compile(r"\[(\d+(?:\.\d*)?)\]")

_DOUBLE = re.compile(r"\[\[([^\[\]]*)\]\]")
_SINGLE = re.compile(r"(?<!\[)\[([^\[\]]*)\](?!\])")
_VERDICT = re.compile(
    r"(?:(?:final|overall)\s+)?(?P<label>(?:rating|score|grade)\s*[:=]?\s*)?"
    r"(?P<number>\d+(?:\.\d*)?)(?:\s*(?:/|out\s+of)\s*(?P<scale>\d+))?",
    re.I,
)
_LONGEST_VERDICT = 40
_ANNOUNCED = re.compile(r"(?:rating|score|grade|verdict)\W*(?:[:=]|is|of|as|would be)\W*$", re.I)
_DECORATION = " \t\r.!*_)\"'`#>-"

_WINNER = re.compile(r"\[\[([ABC])\]\]")
_WINNERS = {"A": "A", "B": "B", "C": "tie"}
_TYPOGRAPHIC = {"【【": "[[", "】】": "]]", "〖〖": "[[", "〗〗": "]]", "⟦": "[[", "⟧": "]]"}
"""Brackets of judges' own scripts, which NFKC leaves as they are. A single 【1】 is a footnote."""

_JSON_KEYS = ("score", "rating", "grade", "verdict", "winner", "preference", "choice", "decision", "better")
_NAMES = {
    "A": ("a", "1", "first", "assistant a", "model a", "model_a", "answer a", "response a", "assistant_a", "model_1"),
    "B": ("b", "2", "second", "assistant b", "model b", "model_b", "answer b", "response b", "assistant_b", "model_2"),
    "tie": ("c", "tie", "0", "draw", "equal", "both", "same", "neither", "none", "a=b", "tied"),
}
_OWN_NAMES = {name: winner for winner, names in _NAMES.items() for name in names}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*\d+|out of \d+)?\s*")


@dataclass(frozen=True)
class Reading:
    """Hold a judgment of one answer read under the rules.

    Attributes:
        score: By FastChat's rule on what the judge wrote behind its thinking, or by the set's own pattern; -1 where it
            finds none.
        strict: By the strict reader, behind the thinking, too; None where it finds none.
        disagreement: How the rules differ, as text; None where they agree.
        raw: By FastChat's rule on the whole text, where that is another score; None where it is the same.
    """

    score: Score
    strict: float | None
    disagreement: str | None
    raw: Score | None = None


def read_judgment(text: str, pattern: str | None = None) -> Reading:
    """Read a judgment of one answer.

    Args:
        text: What the judge wrote, its thinking included.
        pattern: The set's own, see :func:`smaug_eval.mt_bench.config.check_pattern`; None for FastChat's rule.
    """
    raw, decided = fastchat_score(text), split_thinking(text).answer
    if pattern is None and decided == text:
        strict = strict_score(text)
        return Reading(raw, strict, _disagreement(raw, strict, raw))
    if pattern is not None:
        score = _own_score(decided, pattern)
        return Reading(score, None if score == FAILED else float(score), None)
    score, strict = fastchat_score(decided), strict_score(decided)
    return Reading(score, strict, _disagreement(score, strict, raw), None if raw == score else raw)


def read_winner(text: str, pattern: str | None = None) -> str:
    """Return who won a game by what the judge wrote behind its thinking: ``A``, ``B``, ``tie`` or ``error``.

    Args:
        text: What the judge wrote, its thinking included; :func:`fastchat_winner` reads the whole of it.
        pattern: The set's own, see :func:`smaug_eval.mt_bench.config.check_pattern`; None for FastChat's rule.
    """
    decided = split_thinking(text).answer
    if pattern is None:
        return fastchat_winner(decided)
    found = _own_verdict(decided, pattern)
    name = "" if found is None else " ".join(str(found).lower().strip(" []().'\"*").split())
    return _OWN_NAMES.get(name, "error")


def _own_score(text: str, pattern: str) -> Score:
    found = _own_verdict(text, pattern)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return found
    number = _NUMBER.fullmatch(found) if isinstance(found, str) else None
    if number is None:
        return FAILED
    return float(number[1]) if "." in number[1] else int(number[1])


def _own_verdict(text: str, pattern: str) -> Any:
    """What a set's own pattern finds: a text or a number; None where it finds nothing."""
    if pattern == JSON or pattern.startswith(f"{JSON}:"):
        key = pattern.partition(":")[2]
        keys = (key,) if key else _JSON_KEYS
        found = [each for content in _objects(text) if (each := _under(content, keys)) is not None]
        return found[-1] if found else None
    matches = list(re.finditer(pattern, text))
    return (matches[-1][1] if matches[-1].re.groups else matches[-1][0]) if matches else None


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects in a text, in order, those inside of others left to them."""
    decoder, place = json.JSONDecoder(), 0
    while (place := text.find("{", place)) >= 0:
        try:
            content, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        if isinstance(content, Mapping):
            yield content


def _under(content: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """The first text or number under one of some keys, in objects inside, too."""
    lower = {str(key).lower(): value for key, value in content.items()}
    for key in keys:
        value = lower.get(key.lower())
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return value
    inner = (_under(value, keys) for value in content.values() if isinstance(value, Mapping))
    return next((value for value in inner if value is not None), None)


def fastchat_score(text: str) -> Score:
    """Return the score of record: FastChat's rule (``run_judge_single`` in its common.py).

    Returns:
        The number as FastChat writes it, an integer where it has no point; -1 where there is none. -1 too where
        FastChat itself stops with an error ("[[08]]", digits of other scripts), or the number has hundreds of digits.
    """
    found = _FIRST.search(text) or _FIRST_BACKUP.search(text)
    if found is None:
        return FAILED
    try:
        score: Score = ast.literal_eval(found[1])
        float(score)
    except (SyntaxError, ValueError, OverflowError):
        return FAILED
    return score


def strict_score(text: str) -> float | None:
    """Return the last verdict of a text, on the scale of 1 to 10; None where there is no clear one.

    A verdict is a number in ``[[ ]]``, also with its label or its scale ("[[Rating: 7]]", "[[7/10]]"). A number in
    ``[ ]`` counts only in a text without numbers in ``[[ ]]``, and only with its label or scale in or before the
    brackets ("Rating: [7]", "[7/10]") or alone on the last line. Typographic brackets and digits of other scripts are
    read as what they stand for.
    """
    text = _plain(text)
    doubles = [verdict for verdict in _DOUBLE.findall(text) if _has_digit(verdict)]
    if doubles:
        return _on_scale(_verdict(doubles[-1]))
    singles = [verdict for found in _SINGLE.finditer(text) if (verdict := _single_verdict(text, found))]
    return _on_scale(singles[-1]) if singles else None


def fastchat_winner(text: str) -> str:
    """Return who won a game, by FastChat's rule (``run_judge_pair``).

    ``[[A]]`` anywhere, else ``[[B]]``, else ``[[C]]``.

    Returns:
        ``A``, ``B``, ``tie`` or ``error``.
    """
    return next((winner for letter, winner in _WINNERS.items() if f"[[{letter}]]" in text), "error")


def strict_winner(text: str) -> str | None:
    """Return who won a game by the last verdict in ``[[ ]]``: ``A``, ``B``, ``tie``, or None where there is none."""
    found = _WINNER.findall(_plain(text))
    return _WINNERS[found[-1]] if found else None


def _plain(text: str) -> str:
    """``text`` with the brackets and digits of other scripts as those they stand for."""
    text = unicodedata.normalize("NFKC", text)
    for brackets, plain in _TYPOGRAPHIC.items():
        text = text.replace(brackets, plain)
    return text


def _disagreement(score: Score, strict: float | None, raw: Score) -> str | None:
    if raw != score:
        found = "none" if score == FAILED else f"{score:g}"
        return f"FastChat's rule takes {raw:g} from the judge's thinking; behind it stands {found}"
    if score == FAILED:
        return "no score by either rule" if strict is None else f"only the strict reader finds one: {strict:g}"
    if strict is None:
        return f"only FastChat's rule finds one: {score}"
    return None if score == strict else f"FastChat's rule says {score}, the strict reader {strict:g}"


def _has_digit(text: str) -> bool:
    return any(map(str.isdecimal, text))


def _verdict(content: str) -> re.Match[str] | None:
    """What stands in a pair of brackets taken apart into label, number and scale."""
    content = content.strip(" \t\n*_`")
    return _VERDICT.fullmatch(content) if len(content) <= _LONGEST_VERDICT else None


def _single_verdict(text: str, found: re.Match[str]) -> re.Match[str] | None:
    verdict = _verdict(found[1])
    if verdict is None:
        return None
    is_clear = verdict["label"] or verdict["scale"] or _is_announced(text, found) or _is_last_line(text, found)
    return verdict if is_clear else None


def _on_scale(verdict: re.Match[str] | None) -> float | None:
    if verdict is None or float(verdict["scale"] or HIGHEST) != HIGHEST:
        return None
    score = float(verdict["number"])
    return score if LOWEST <= score <= HIGHEST else None


def _is_announced(text: str, found: re.Match[str]) -> bool:
    return bool(_ANNOUNCED.search(text[max(0, found.start() - _LONGEST_VERDICT) : found.start()]))


def _is_last_line(text: str, found: re.Match[str]) -> bool:
    before = text[max(0, found.start() - _LONGEST_VERDICT) : found.start()]
    after = text[found.end() : found.end() + _LONGEST_VERDICT]
    alone = not after.strip(_DECORATION + "\n") and found.end() + len(after) == len(text)
    line = before.rpartition("\n")[2]
    return alone and not line.strip(_DECORATION) and ("\n" in before or found.start() <= _LONGEST_VERDICT)
