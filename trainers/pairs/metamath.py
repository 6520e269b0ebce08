"""Build pairs that differ in one intermediate result: MetaMath_DPO_FewShot of arXiv 2402.13228.

From a row of GSM8K (``question``, ``answer``) or MetaMathQA (``query``, ``response``), the chosen completion is the
solution; the rejected one is the same solution with the number after one "=" falsified. Everything else, the final
answer too, is byte-identical.

How far the two lie apart can be chosen: further places are falsified in a fixed random order, so that pairs with more
edits are the same pairs, with the same first edits and some more.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.forms import question as question_prompt
from smaug_eval.trainers.pairs.config import MetaMathPairs
from smaug_eval.trainers.pairs.examples import Problem, pairs_of
from smaug_eval.trainers.pairs.pair import PairSet
from smaug_eval.trainers.pairs.read import text_columns

COLUMNS = ("question", "answer")
METAMATHQA_COLUMNS = ("query", "response", "original_question")

ANNOTATION = re.compile(r"<<[^<>]*>>")
_NUMBER = r"(?P<number>(?:[1-9]\d{0,2}(?:,\d{3}){1,4}|0|[1-9]\d{0,14})(?:\.\d{1,9})?|\.\d{1,9})"
_NOTE = r"(?:<<[^<>]*?=(?P<inner>[^<>=]*)>>)?"
# A result, not the first operand of a further calculation ("= 3 * 4 = 12"), a coefficient ("= 2x") or a clock time.
_ENDS = r"(?!\d|[.,:]\d|[A-Za-z]\b|\s*[-+*/x×÷^]\s*[($€£¥]*\s*[\d.])"
RESULT = re.compile(rf"=[ \t]*(?P<sign>-?[$€£¥]?-?){_NOTE}[ \t]*(?P<sign_after>-?[$€£¥]?-?){_NUMBER}{_ENDS}", re.ASCII)
_ANSWER = r"[ \t]*(?P<sign>-?)[$€£¥]?(?P<minus>-?)(?P<number>[\d,]*\.?\d+)"
# Further places of the working that can be falsified.
NUMBER = re.compile(rf"(?<![\w.,]){_NUMBER}(?!\d|[.,]\d)", re.ASCII)
WORD = re.compile(r"(?<![\w\\'])[A-Za-z]+(?![\w'])")
FINAL = re.compile(rf"^####{_ANSWER}", re.MULTILINE | re.ASCII)
# MetaMathQA's last line; the number must be all of it ("3/4" and "5 \sqrt{2}" are no numbers).
STATED = re.compile(rf"^The answer is:{_ANSWER}[ \t]*\.?[ \t]*$", re.MULTILINE | re.ASCII)


@dataclass(frozen=True)
class Result:
    """Describe an intermediate result in a solution.

    Attributes:
        spans: Where its digits stand, as ``(start, end)`` character offsets: in the text, and with annotations kept
            also inside the annotation before it.
        digits: The digits as written, for example ``1,200.50``.
        negative: Whether a minus sign stands before them.
    """

    spans: tuple[tuple[int, int], ...]
    digits: str
    negative: bool

    @property
    def value(self) -> Decimal:
        """Return the number that the text states."""
        return _value(self.digits, self.negative)


def strip_annotations(solution: str) -> str:
    """Return the solution without GSM8K's ``<<48/2=24>>`` calculator annotations."""
    return ANNOTATION.sub("", solution)


def final_answer(solution: str) -> Decimal | None:
    """Return the number of the last ``#### `` line, or else of the last ``The answer is:`` line."""
    lines = list(FINAL.finditer(solution)) or list(STATED.finditer(solution))
    if not lines:
        return None
    last = lines[-1]
    return _value(last["number"], bool(last["sign"] or last["minus"]))


def working(solution: str) -> str:
    """Return the solution up to the line that states its final answer."""
    end = max(solution.rfind("####"), -1 if "####" in solution else solution.rfind("The answer is:"))
    return solution[:end] if end >= 0 else solution


def intermediate_results(solution: str) -> list[Result]:
    """Return the numbers after an "=" that differ from the final answer, in order of appearance.

    A number whose annotation states another value, or the same in another notation, is left out: the two could not be
    changed together.
    """
    answer = final_answer(solution)
    body = working(solution)
    notes = [note.span() for note in ANNOTATION.finditer(body)]
    results = []
    for match in RESULT.finditer(body):
        if any(start < match.start() < end for start, end in notes):
            continue  # the "=" of an annotation that no "=" of the text introduces
        digits = match["number"]
        spans = [match.span("number")]
        if match["inner"] is not None:
            if match["inner"] != digits.replace(",", ""):
                continue
            spans.insert(0, match.span("inner"))
        result = Result(tuple(spans), digits, "-" in match["sign"] + match["sign_after"])
        if result.value != answer:
            results.append(result)
    return results


def falsified_digits(result: Result, answer: Decimal | None, rng: random.Random) -> str:
    """Return a different number in the notation of ``result``.

    Same count of digits and decimals, same thousands commas.

    Uniform over such numbers, except the original, the final answer and 0; the first digit is 0 only where it was.
    """
    whole, point, decimals = result.digits.partition(".")
    scale = 10 ** len(decimals)  # the number is drawn as an integer count of its last decimal
    if whole not in ("", "0"):
        width = len(whole.replace(",", ""))
        low, high = 10 ** (width - 1) * scale, 10**width * scale
    else:
        low, high = 1, max(10, scale)
    while True:
        integer, fraction = divmod(rng.randrange(low, high), scale)
        text = f"{integer:,}" if "," in whole else str(integer)
        text = (text if whole else "") + (f"{point}{fraction:0{len(decimals)}d}" if decimals else "")
        value = _value(text, result.negative)
        if value not in (result.value, answer):
            return text


class Words:
    """Hold the words that falsified words are drawn from: those of some solutions, capitalised ones apart."""

    def __init__(self, solutions: Iterable[str]) -> None:
        found = sorted({word[0] for solution in solutions for word in WORD.finditer(working(solution))})
        self._alike = {capital: [word for word in found if word[0].isupper() is capital] for capital in (True, False)}

    def other(self, word: str, rng: random.Random) -> str:
        """Draw another word, capitalised like ``word``; uniform."""
        while True:
            drawn = rng.choice(self._alike[word[0].isupper()])
            if drawn != word:
                return drawn

    def has_other(self, word: str) -> bool:
        """Check whether there is another word, capitalised like ``word``."""
        alike = self._alike[word[0].isupper()]
        return len(alike) > 1 or (len(alike) == 1 and alike[0] != word)


def falsify(solution: str, rng: random.Random, *, places: int | None = 1, words: Words | None = None) -> str | None:
    """Return the solution with some places replaced, or None where it has no intermediate result.

    The first place is a random intermediate result. Then come, each kind in random order, the other intermediate
    results, the other numbers and the words of the working; numbers keep their notation, and the line that states the
    final answer stays. From the same state of ``rng``, more places are the same ones with the same replacements, and
    some more.

    Args:
        solution: A worked solution.
        rng: Decides everything.
        places: How many to replace, as far as there are; None for all.
        words: What falsified words are drawn from; none are falsified if None.
    """
    results = intermediate_results(solution)
    if not results:
        return None
    first, answer = rng.choice(results), final_answer(solution)
    edits = _number_edits(first, falsified_digits(first, answer, rng))
    if places != 1:
        further = _further_places(solution, results, first, rng, words)
        for place in islice(further, None if places is None else places - 1):
            if isinstance(place, Result):
                edits += _number_edits(place, falsified_digits(place, answer, rng))
            elif words is not None:
                edits.append((place.span(), words.other(place[0], rng)))
    for (start, end), text in sorted(edits, reverse=True):
        solution = solution[:start] + text + solution[end:]
    return solution


def _number_edits(result: Result, digits: str) -> list[tuple[tuple[int, int], str]]:
    """What to write where; inside an annotation without thousands commas."""
    *inner, text = result.spans
    return [(text, digits), *((span, digits.replace(",", "")) for span in inner)]


def _further_places(
    solution: str, results: Sequence[Result], first: Result, rng: random.Random, words: Words | None
) -> list[Result | re.Match[str]]:
    """The places beside the first in the order in which they are falsified; annotations change with a result only."""
    body = working(solution)
    taken = [note.span() for note in ANNOTATION.finditer(body)] + [span for result in results for span in result.spans]

    def free(match: re.Match[str]) -> bool:
        return all(match.end() <= start or end <= match.start() for start, end in taken)

    kinds: list[list[Result | re.Match[str]]] = [
        [result for result in results if result != first],
        [Result((match.span(),), match["number"], negative=False) for match in NUMBER.finditer(body) if free(match)],
        [match for match in WORD.finditer(body) if words is not None and free(match) and words.has_other(match[0])],
    ]
    return [place for kind in kinds for place in rng.sample(kind, len(kind))]


@dataclass(frozen=True)
class SolvedProblem(Problem):
    """Hold a worded problem with its worked solution.

    Attributes:
        solution: The solution; its last number is the answer.
        places: Places to falsify in the rejected completion; None for all.
        words: What falsified words are drawn from; None where no word is falsified.
    """

    solution: str
    places: int | None = 1
    words: Words | None = field(default=None, repr=False)

    @property
    def solved(self) -> str:
        """Return the problem with its solution, as an example for a prompt."""
        return f"{self.prompt} {self.solution}"

    @cached_property
    def pairs(self) -> int:
        """Return one pair, where a result can be falsified."""
        return 1 if intermediate_results(self.solution) else 0

    def completions(self, rng: random.Random) -> list[tuple[str, str]]:
        """Return the solution, and one with falsified places."""
        rejected = falsify(self.solution, rng, places=self.places, words=self.words)
        return [] if rejected is None else [(f" {self.solution}", f" {rejected}")]


def metamath_pairs(config: MetaMathPairs, *, data_root: Path | None) -> PairSet:
    """Build the pairs of a GSM8K-format or MetaMathQA file or split.

    See :func:`smaug_eval.trainers.pairs.examples.pairs_of`.

    Raises:
        SmaugError: a row is broken, or there are fewer rows than the prompts need solved examples.
    """
    return pairs_of(config, data_root=data_root, read=lambda rows, dropped: _problems(rows, config, dropped))


def _problems(rows: Sequence[tuple[str, Any]], config: MetaMathPairs, dropped: Counter[str]) -> list[SolvedProblem]:
    problems: dict[str, SolvedProblem] = {}
    for index, (where, row) in enumerate(rows):
        question, answer, original = _columns(where, row)
        if not question or not answer:
            raise SmaugError(f"{where}: question or answer is empty", fix="correct or remove the row")
        solution = strip_annotations(answer) if config.annotations == "strip" else answer
        if final_answer(solution) is None:
            dropped["no_final_answer"] += 1
        elif question in problems:
            dropped["duplicate_question"] += 1
        else:
            prompt = question_prompt({"question": question})
            problems[question] = SolvedProblem(index, original or question, prompt, solution)
    unusable = sum(not problem.pairs for problem in problems.values())
    if unusable:
        dropped["no_intermediate_result"] += unusable
    if config.falsify == 1:
        return list(problems.values())
    words = Words(problem.solution for problem in problems.values())
    places = None if config.falsify == "all" else config.falsify
    return [replace(problem, places=places, words=words) for problem in problems.values()]


def _columns(where: str, row: Any) -> tuple[str, str, str]:
    """Question, answer and, of a MetaMathQA row, the question it was made from, which several rows share."""
    if isinstance(row, dict) and "query" in row and "question" not in row:
        values = text_columns(where, row, METAMATHQA_COLUMNS)
        return values["query"].strip(), values["response"].strip(), values["original_question"].strip()
    values = text_columns(where, row, COLUMNS)
    return values["question"].strip(), values["answer"].strip(), ""


def _value(digits: str, negative: bool) -> Decimal:
    value = Decimal(digits.replace(",", ""))
    return -value if negative else value
