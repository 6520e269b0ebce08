"""What a judge decided, read from what it wrote: by FastChat's rule, which is the score of record, and strictly.

FastChat takes the first number in ``[[ ]]``, else the first in ``[ ]``, whatever it is. The strict reader takes the
last verdict, wants it between 1 and 10, and rather says nothing than take a list index or a footnote for a rating.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from dataclasses import dataclass

from smaug_eval.mt_bench.records import FAILED, Score

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


@dataclass(frozen=True)
class Reading:
    """A judgment of one answer read under both rules.

    Attributes:
        score: By FastChat's rule; -1 where it finds none.
        strict: By the strict reader; None where it finds none.
        disagreement: How the two differ, in plain words; None where they agree.
    """

    score: Score
    strict: float | None
    disagreement: str | None


def read_judgment(text: str) -> Reading:
    """Read a judgment of one answer under both rules."""
    score, strict = fastchat_score(text), strict_score(text)
    return Reading(score, strict, _disagreement(score, strict))


def fastchat_score(text: str) -> Score:
    """The score of record: FastChat's rule (``run_judge_single`` in its common.py).

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
    """The last verdict of a text, on the scale of 1 to 10; None where there is no clear one.

    A verdict is a number in ``[[ ]]``, also with its label or its scale ("[[Rating: 7]]", "[[7/10]]"). A number in
    ``[ ]`` counts only in a text without numbers in ``[[ ]]``, and only with its label or scale in or before the
    brackets ("Rating: [7]", "[7/10]") or alone on the last line. Typographic brackets and digits of other scripts are
    read as what they stand for.
    """
    text = unicodedata.normalize("NFKC", text)
    doubles = [verdict for verdict in _DOUBLE.findall(text) if _has_digit(verdict)]
    if doubles:
        return _on_scale(_verdict(doubles[-1]))
    singles = [verdict for found in _SINGLE.finditer(text) if (verdict := _single_verdict(text, found))]
    return _on_scale(singles[-1]) if singles else None


def fastchat_winner(text: str) -> str:
    """Who won a game, by FastChat's rule (``run_judge_pair``): ``[[A]]`` anywhere, else ``[[B]]``, else ``[[C]]``.

    Returns:
        ``A``, ``B``, ``tie`` or ``error``.
    """
    return next((winner for letter, winner in _WINNERS.items() if f"[[{letter}]]" in text), "error")


def strict_winner(text: str) -> str | None:
    """Who won a game by the last verdict in ``[[ ]]``: ``A``, ``B``, ``tie``, or None where there is none."""
    found = _WINNER.findall(unicodedata.normalize("NFKC", text))
    return _WINNERS[found[-1]] if found else None


def _disagreement(score: Score, strict: float | None) -> str | None:
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
