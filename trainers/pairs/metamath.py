"""Pairs that differ in one intermediate result: the MetaMath_DPO_FewShot construction of arXiv 2402.13228.

From a GSM8K-format row, the chosen completion is the solution; the rejected one is the same solution with the number
after one "=" falsified. Everything else, the final answer too, is byte-identical.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from smaug_eval.errors import SmaugError
from trainers.config import MetaMathPairs
from trainers.pairs.pair import Pair, PairSet, draw_questions
from trainers.pairs.read import Row, read_rows

COLUMNS = ("question", "answer")

ANNOTATION = re.compile(r"<<[^<>]*>>")
_NUMBER = r"(?P<number>(?:[1-9]\d{0,2}(?:,\d{3}){1,4}|0|[1-9]\d{0,14})(?:\.\d{1,9})?|\.\d{1,9})"
_NOTE = r"(?:<<[^<>]*?=(?P<inner>[^<>=]*)>>)?"
# A result, not the first operand of a further calculation ("= 3 * 4 = 12"), a coefficient ("= 2x") or a clock time.
_ENDS = r"(?!\d|[.,:]\d|[A-Za-z]\b|\s*[-+*/x×÷^]\s*[($€£¥]*\s*[\d.])"
RESULT = re.compile(rf"=[ \t]*(?P<sign>-?[$€£¥]?-?){_NOTE}[ \t]*(?P<sign_after>-?[$€£¥]?-?){_NUMBER}{_ENDS}", re.ASCII)
FINAL = re.compile(r"^####[ \t]*(?P<sign>-?)[$€£¥]?(?P<minus>-?)(?P<number>[\d,]*\.?\d+)", re.MULTILINE | re.ASCII)


@dataclass(frozen=True)
class Result:
    """An intermediate result in a solution.

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
        """The number that the text states."""
        return _value(self.digits, self.negative)


def strip_annotations(solution: str) -> str:
    """The solution without GSM8K's ``<<48/2=24>>`` calculator annotations."""
    return ANNOTATION.sub("", solution)


def final_answer(solution: str) -> Decimal | None:
    """The number of the last ``#### `` line, or None where there is none."""
    lines = list(FINAL.finditer(solution))
    if not lines:
        return None
    last = lines[-1]
    return _value(last["number"], bool(last["sign"] or last["minus"]))


def intermediate_results(solution: str) -> list[Result]:
    """The numbers after an "=" that differ from the final answer, in order of appearance.

    A number whose annotation states another value, or the same in another notation, is left out: the two could not be
    changed together.
    """
    answer = final_answer(solution)
    body = solution[: solution.rfind("####")] if "####" in solution else solution
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
    """A different number in the notation of ``result``: same count of digits and decimals, same thousands commas.

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


def falsify(solution: str, rng: random.Random) -> str | None:
    """The solution with one random intermediate result replaced, or None where it has none."""
    results = intermediate_results(solution)
    if not results:
        return None
    result = rng.choice(results)
    digits = falsified_digits(result, final_answer(solution), rng)
    text_span = result.spans[-1]
    for start, end in reversed(result.spans):
        written = digits if (start, end) == text_span else digits.replace(",", "")
        solution = solution[:start] + written + solution[end:]
    return solution


def question_text(question: str) -> str:
    """The prompt of one question, in the form of the leaderboard's GSM8K task."""
    return f"Question: {question}\nAnswer:"


@dataclass(frozen=True)
class _Problem:
    index: int
    question: str
    solution: str

    @property
    def solved(self) -> str:
        return f"{question_text(self.question)} {self.solution}"


def metamath_pairs(config: MetaMathPairs, *, data_root: Path | None) -> PairSet:
    """Build the pairs of a GSM8K-format file or split.

    The random choices of a pair depend on the seed and its row alone, so that ``limit`` and the order of work change
    nothing. Solved examples come from training rows only, never from held-out ones.

    Raises:
        SmaugError: a row is broken, or there are fewer rows than the prompts need solved examples.
    """
    dropped: Counter[str] = Counter()
    rows = read_rows(config.path, COLUMNS, data_root=data_root, config=config.config, split=config.split)
    problems = _problems(rows, config, dropped)
    usable = _with_results(problems, dropped)
    count = len(rows)
    if config.eval_path or config.eval_split:
        eval_rows = read_rows(
            config.eval_path or config.path, COLUMNS, data_root=data_root, config=config.config, split=config.eval_split
        )
        count += len(eval_rows)
        candidates = _with_results(_problems(eval_rows, config, dropped), dropped)
        stream = "eval"
    else:
        candidates, stream = usable, "train"
    rng = random.Random(f"{config.seed}:holdout")
    drawn = set(draw_questions((problem.question for problem in candidates), config.holdout, rng))
    pool = [problem for problem in problems if problem.question not in drawn]
    _check_pool(pool, config)
    train = [problem for problem in usable if problem.question not in drawn]
    shared = len(usable) - len(train) - (len(drawn) if candidates is usable else 0)
    if shared:
        dropped["shares_a_held_out_question"] += shared
    held_out = [problem for problem in candidates if problem.question in drawn]
    return PairSet(
        train=[_pair(problem, pool, config, "train") for problem in train[: config.limit]],
        eval=[_pair(problem, pool, config, stream) for problem in held_out],
        rows=count,
        dropped=dropped,
    )


def _problems(rows: Sequence[Row], config: MetaMathPairs, dropped: Counter[str]) -> list[_Problem]:
    problems: dict[str, _Problem] = {}
    for row in rows:
        question, answer = row.values["question"].strip(), row.values["answer"].strip()
        if not question or not answer:
            raise SmaugError(f"{row.where}: question or answer is empty", fix="correct or remove the row")
        solution = strip_annotations(answer) if config.annotations == "strip" else answer
        if final_answer(solution) is None:
            dropped["no_final_answer"] += 1
        elif question in problems:
            dropped["duplicate_question"] += 1
        else:
            problems[question] = _Problem(row.index, question, solution)
    return list(problems.values())


def _with_results(problems: Sequence[_Problem], dropped: Counter[str]) -> list[_Problem]:
    usable = [problem for problem in problems if intermediate_results(problem.solution)]
    if len(usable) < len(problems):
        dropped["no_intermediate_result"] += len(problems) - len(usable)
    return usable


def _check_pool(pool: Sequence[_Problem], config: MetaMathPairs) -> None:
    if len(pool) <= config.shots[1]:
        raise SmaugError(
            f"{config.path}: {len(pool)} rows remain beside the held-out ones, too few for {config.shots[1]} "
            "solved examples and a question",
            fix="give more rows, or lower shots or holdout in the pair set",
        )


def _pair(problem: _Problem, pool: Sequence[_Problem], config: MetaMathPairs, stream: str) -> Pair:
    rng = random.Random(f"{config.seed}:{stream}:{problem.index}")
    shots = rng.randint(*config.shots)
    # One more than needed, in case the problem itself is drawn.
    examples = [other for other in rng.sample(pool, shots + 1) if other.question != problem.question][:shots]
    rejected = falsify(problem.solution, rng)
    assert rejected is not None, "only problems with an intermediate result come here"  # noqa: S101
    prompt = "\n\n".join([*(example.solved for example in examples), question_text(problem.question)])
    return Pair(prompt, f" {problem.solution}", f" {rejected}", question=problem.question)


def _value(digits: str, negative: bool) -> Decimal:
    value = Decimal(digits.replace(",", ""))
    return -value if negative else value
