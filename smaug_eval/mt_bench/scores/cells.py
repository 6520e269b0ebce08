"""Average judgments, with intervals that follow from how questions vary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.questions import QuestionId, official_category
from smaug_eval.mt_bench.files.records import JudgmentRecord, PairJudgmentRecord
from smaug_eval.stats import Interval, t_mean_interval

AnyJudgment = TypeVar("AnyJudgment", bound=JudgmentRecord | PairJudgmentRecord)
CellPlace = tuple[object, ...]
Reader = Callable[[JudgmentRecord], float | None]


@dataclass(frozen=True)
class JudgedTurn:
    """Hold one value that an average is over: a turn of a question, judged once or several times.

    Attributes:
        question_id: The question.
        turn: From 1.
        category: The question's; None where it is not known.
        values: The score of each repeat that has one.
    """

    question_id: QuestionId
    turn: int
    category: str | None
    values: tuple[float, ...]

    @property
    def score(self) -> float | None:
        """Return the median over repeats; None where no repeat has a score."""
        return median(self.values) if self.values else None


def cells_of(
    records: Iterable[JudgmentRecord], read: Reader, categories: Mapping[QuestionId, str] | None = None
) -> list[JudgedTurn]:
    """Return the values of one model.

    Repeats of a judgment (``smaug.repeat``) share a cell. Lines that repeat the same judgment without saying so get a
    cell each: show_result counts every line.

    Args:
        records: Judgments of the model by one judge.
        read: The score of a judgment.
        categories: Of the questions; where None or not named, the record's own or MT-Bench's.
    """
    grouped = grouped_repeats(records, lambda record: (record.question_id, record.turn))
    return [_cell(group, read, categories or {}) for group in grouped]


def grouped_repeats(
    records: Iterable[AnyJudgment], place: Callable[[AnyJudgment], CellPlace]
) -> list[list[AnyJudgment]]:
    """Group judgments of the same thing: the repeats of one place, and each line that is there again on its own."""
    seen: Counter[CellPlace] = Counter()
    groups: dict[CellPlace, list[AnyJudgment]] = defaultdict(list)
    for record in records:
        key = (*place(record), record.repeat)
        group = (*place(record), seen[key])
        groups[group].append(record)
        seen[key] += 1
    return list(groups.values())


def lines_there_again(records: Iterable[AnyJudgment], place: Callable[[AnyJudgment], CellPlace]) -> int:
    """Return how many lines judge what an earlier line has judged, without being marked as its repeat."""
    counts = Counter((*place(record), record.repeat) for record in records)
    return sum(counts.values()) - len(counts)


def of_one_judge(records: Sequence[AnyJudgment], judge: str | None) -> list[AnyJudgment]:
    """Return the records of one judge.

    Args:
        records: Of any judges.
        judge: The judge's name; may be None where there is only one.

    Raises:
        SmaugError: there are several judges and none is named, or there is none of that name.
    """
    names = sorted({record.judge[0] for record in records})
    if judge is None:
        if len(names) > 1:
            raise SmaugError(
                f"the judgments are by several judges: {', '.join(names)}", fix="choose one of them with --judge"
            )
        return list(records)
    chosen = [record for record in records if record.judge[0] == judge]
    if records and not chosen:
        raise SmaugError(f"no judgment is by {judge!r}, only by {', '.join(names)}", fix="choose one of these")
    return chosen


def mean_interval_over_questions(
    values: Iterable[tuple[QuestionId, float]], *, scale: Interval | None = None
) -> Interval | None:
    """Return the 95% interval of a mean.

    It is Student's t with the standard error clustered by question.

    A question's two turns vary together, so that it counts as one: ten questions leave nine degrees of freedom.

    Args:
        values: A question and a value of it, in any order.
        scale: The least and the greatest value there should be, where the interval is cut; None where there are none.

    Returns:
        None with fewer than two questions, or where nothing varies between them.
    """
    pairs = list(values)
    own = np.array([value for _, value in pairs], np.float64)
    found = t_mean_interval(own, [question for question, _ in pairs])
    if found is None or scale is None:
        return found
    ends = min(scale[0], own.min()), max(scale[1], own.max())  # FastChat's rule takes any number for a score
    return max(float(ends[0]), found[0]), min(float(ends[1]), found[1])


def category_of(record: JudgmentRecord | PairJudgmentRecord, categories: Mapping[QuestionId, str]) -> str | None:
    """Return the category of a judgment's question: as given, else as recorded, else MT-Bench's for its numbers."""
    recorded = record.smaug.get("category")
    own = recorded if isinstance(recorded, str) else official_category(record.question_id)
    return categories.get(record.question_id, own)


def _cell(group: Sequence[JudgmentRecord], read: Reader, categories: Mapping[QuestionId, str]) -> JudgedTurn:
    values = tuple(value for record in group if (value := read(record)) is not None)
    return JudgedTurn(group[0].question_id, group[0].turn, category_of(group[0], categories), values)
