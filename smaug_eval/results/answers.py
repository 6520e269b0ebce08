"""Check generated answers for what spoils a score: empty, cut, of unclosed thought, nothing extracted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from smaug_eval.common.errors import SmaugError
from smaug_eval.results.json_files import mapping, whole_number
from smaug_eval.results.metrics import NO_FILTER
from smaug_eval.results.sample_files import (
    KEPT_FILES,
    FileState,
    Samples,
    arguments_of,
    sample_rows,
    state_of,
    with_hashes,
)
from smaug_eval.results.task_results import TaskResult

Flaw = Literal["empty", "unclosed", "cut", "unextracted"]
FLAWS: dict[Flaw, str] = {
    "empty": "empty",
    "unclosed": "thought not closed",
    "cut": "cut at the token limit",
    "unextracted": "no answer extracted",
}
"""What an answer can lack, in the words of the page; one may lack several things."""
READ_AT_MOST = 512 * 2**20
"""Bytes of a task's samples that are looked through."""

_TAGS = ("think", "thinking", "thought", "reasoning", "reason")
_OPEN = re.compile(rf"<(?:{'|'.join(_TAGS)})>|<\|(?:begin_of_thought|START_THINKING)\|>|\[THINK\]", re.I)
_CLOSE = re.compile(rf"</(?:{'|'.join(_TAGS)})>|<\|(?:end_of_thought|END_THINKING)\|>|\[/THINK\]", re.I)
_PIECES = re.compile(r"\w+|[^\w\s]")
_ENDS = re.compile(r"[.!?)\]}>\"'`*|$:;]\s*$|</\w+>\s*$")
_NOTHING = frozenset({"", "[invalid]", "[no answer]", "none", "null", "n/a"})
_NEAR_LIMIT = 0.7
"""Words and marks that a text at the token limit holds at least, for each token: English has some 0.85, code and
numbers fewer. What ends as a text ends is not called cut."""
_CHARACTERS = 6
"""Most characters of a token on average; a text without spaces is measured by them."""
_TOKEN_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class AnswerFlaws:
    """Count what one model's generated answers to a task lack.

    Attributes:
        answers: How many there are.
        flaws: Each document's number and hash to its flaws; answers without any are left out.
        limit: Most new tokens, where that is known.
    """

    answers: int
    flaws: Mapping[tuple[str, str], tuple[Flaw, ...]]
    limit: int | None

    def count(self, flaw: Flaw) -> int:
        """Count the answers that have a flaw."""
        return sum(flaw in own for own in self.flaws.values())


def answer_flaws(result: TaskResult, metric: str | None) -> AnswerFlaws | None:
    """Look through the generated answers of a task.

    Args:
        result: What a file says of the task.
        metric: The metric that stands for it, ``name,filter``: answers are what its filter extracts.

    Returns:
        None where there are no samples, the task generates nothing, or they are too large to be read again.
    """
    if result.samples is None:
        return None
    try:
        state = state_of(result.samples)
        if state.size > READ_AT_MOST:
            return None
        return _looked_through(result.samples, state, (metric or "").partition(",")[2], result.asked.max_tokens)
    except (SmaugError, OSError):  # said where the samples are shown
        return None


@lru_cache(maxsize=KEPT_FILES)
def _looked_through(samples: Samples, _state: FileState, wanted: str, limit: int | None) -> AnswerFlaws | None:
    found: dict[tuple[str, str], tuple[Flaw, ...]] = {}
    seen: set[tuple[str, str]] = set()
    limits: set[int] = set()
    for row in sample_rows(samples):
        if wanted and row.get("filter", wanted) != wanted:
            continue
        if (generated := _generated(row)) is None:
            return None
        prompt, settings, texts = generated
        hashed = with_hashes(row)
        key = (str(row.get("doc_id")), str(hashed.get("doc_hash")))
        if key in seen:
            continue
        seen.add(key)
        own = next((n for name in _TOKEN_KEYS if (n := whole_number(settings.get(name))) is not None), limit)
        limits.update(() if own is None else (own,))
        flaws = tuple(_flaws(prompt, texts, row.get("filtered_resps"), str(row.get("filter", NO_FILTER)), own))
        if flaws:
            found[key] = flaws
    if not seen:
        return None
    return AnswerFlaws(len(seen), found, max(limits, default=None))


def _generated(row: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], list[str]] | None:
    """Return prompt, settings and answers of a sample; None where nothing was generated."""
    try:
        arguments = arguments_of(row)[0]
        responses = row["resps"][0]
    except (LookupError, TypeError, AttributeError):
        return None
    if len(arguments) < 2 or not isinstance(arguments[1], Mapping):
        return None
    texts = responses if isinstance(responses, list) else [responses]
    if not texts or not all(isinstance(text, str) for text in texts):
        return None
    return str(arguments[0]), mapping(arguments[1]), texts


def _flaws(prompt: str, texts: Sequence[str], filtered: object, filter_name: str, limit: int | None) -> Iterator[Flaw]:
    """Yield what the answers to one document lack; of several answers, what any of them lacks."""
    if any(not text.strip() for text in texts):
        yield "empty"
    if any(_is_unclosed(prompt, text) for text in texts):
        yield "unclosed"
    if limit is not None and any(_is_cut(text, limit) for text in texts):
        yield "cut"
    if filter_name != NO_FILTER and any(text.strip() for text in texts) and _is_nothing(filtered):
        yield "unextracted"


def _is_unclosed(prompt: str, text: str) -> bool:
    """Return whether a thought was begun, by the model or by the end of its prompt, and not ended."""
    if "<" not in text and "[" not in text and "<" not in prompt[-64:] and "[" not in prompt[-64:]:  # as most are
        return False
    opened = [match.end() for match in _OPEN.finditer(text)]
    closed = [match.end() for match in _CLOSE.finditer(text)]
    if opened:
        return not closed or closed[-1] < opened[-1]
    begun = [match.end() for match in _OPEN.finditer(prompt[-64:])]
    return bool(begun) and not prompt[-64:][begun[-1] :].strip() and not closed


def _is_cut(text: str, limit: int) -> bool:
    """Return whether a text is as long as the limit allows and ends in the middle of something."""
    ended = text.rstrip()
    if not ended or _ENDS.search(ended):
        return False
    pieces = max(len(_PIECES.findall(ended)), len(ended) // _CHARACTERS)
    return pieces >= _NEAR_LIMIT * limit


def _is_nothing(filtered: object) -> bool:
    """Return whether a filter found no answer."""
    if isinstance(filtered, list):
        return all(_is_nothing(each) for each in filtered)
    return filtered is None or str(filtered).strip().lower() in _NOTHING
