"""Compare generated answers: where two differ, and how a solution of a word problem fails."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rapidfuzz.distance import Indel

from smaug_eval.leaderboard.benchmarks.gsm8k import final_answer

Failure = Literal["right", "wrong-number", "after-colon", "cut-short", "no-number"]
FAILURES: dict[str, str] = {
    "right": "right",
    "wrong-number": "wrong number after ####",
    "after-colon": "first #### only after ':'",
    "cut-short": "no ####, cut short",
    "no-number": "no ####, ends properly",
}
"""What a solution can be, in the words of the page. Every solution is one of them."""

_TOKENS = re.compile(r"\s+|\w+|[^\w\s]")
_SENTENCE_ENDS = (".", "!", "?", ")", '"', "'")
_LEADERBOARD_STOP = ":"


class Run(NamedTuple):
    """Hold consecutive text that is either common to two answers or not."""

    text: str
    is_changed: bool


def marked(texts: Sequence[str | None], baseline: int = 0) -> list[list[Run]]:
    """Split several answers into runs that the baseline's answer shares or does not.

    Tokens are words, marks of punctuation and white space; the alignment has the fewest insertions and deletions.

    Args:
        texts: One per model, None where there is none.
        baseline: Whose answer the others are held against.

    Returns:
        The runs of each text, whose texts make up the whole; the baseline's mark what some other answer lacks. Nothing
        is marked where the baseline has no text.
    """
    reference = texts[baseline]
    tokens = _tokens(reference or "")
    dropped = [False] * len(tokens)
    runs: list[list[Run]] = []
    for index, text in enumerate(texts):
        if index == baseline or reference is None or text is None:
            runs.append([] if not text else [Run(text, is_changed=False)])
            continue
        own = _tokens(text)
        added = [False] * len(own)
        for part in Indel.opcodes(tokens, own):
            if part.tag != "equal":
                dropped[part.src_start : part.src_end] = [True] * (part.src_end - part.src_start)
                added[part.dest_start : part.dest_end] = [True] * (part.dest_end - part.dest_start)
        runs.append(_runs(own, added))
    if reference is not None:
        runs[baseline] = _runs(tokens, dropped)
    return runs


def failure(text: str, gold: str) -> Failure:
    """Return how a solution fails under the leaderboard's rule, or that it does not.

    The leaderboard stops at ':', and a log lacks the text that stopped it. A solution that stops without a final number
    and without the end of a sentence is therefore "cut short", at ':' or at the token limit; where the text holds ':'
    because it was no stop, what follows it is nothing that the leaderboard would read ("after-colon").

    Args:
        text: What the model wrote.
        gold: The right final number, as :func:`~smaug_eval.leaderboard.benchmarks.gsm8k.final_answer` gives it.
    """
    number = final_answer(text)
    if number is None:
        ended = text.rstrip()
        return "cut-short" if ended and not ended.endswith(_SENTENCE_ENDS) else "no-number"
    if final_answer(text.partition(_LEADERBOARD_STOP)[0]) is None:
        return "after-colon"
    return "right" if number == gold else "wrong-number"


def _tokens(text: str) -> list[str]:
    return _TOKENS.findall(text)


def _runs(tokens: Sequence[str], changed: Sequence[bool]) -> list[Run]:
    runs: list[Run] = []
    for token, is_changed in zip(tokens, changed, strict=True):
        if runs and runs[-1].is_changed == is_changed:
            runs[-1] = Run(runs[-1].text + token, is_changed)
        else:
            runs.append(Run(token, is_changed))
    return runs
