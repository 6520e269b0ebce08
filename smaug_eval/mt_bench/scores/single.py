"""Score single answers: FastChat's averages, with intervals, under both parsing rules; compare two models.

The average is over all judgments, not of the two turns' means, and leaves out those without a score, as show_result's
does; here they are counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

import numpy as np

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.thinking import split_thinking
from smaug_eval.mt_bench.files.questions import CATEGORIES, QuestionId
from smaug_eval.mt_bench.files.records import FAILED, JudgmentRecord, Judgments
from smaug_eval.mt_bench.judge.parsing import HIGHEST, LOWEST, strict_score
from smaug_eval.mt_bench.scores.cells import (
    JudgedTurn,
    Reader,
    cells_of,
    lines_there_again,
    mean_interval_over_questions,
    of_one_judge,
)
from smaug_eval.mt_bench.scores.pairs import pair_scores
from smaug_eval.stats import Interval, sign_flip_p_value

_SCALE = (float(LOWEST), float(HIGHEST))
_DIFFERENCES = (float(LOWEST - HIGHEST), float(HIGHEST - LOWEST))


@dataclass(frozen=True)
class Means:
    """Hold averages under one parsing rule, on the scale of 1 to 10; None where there is nothing to average.

    Attributes:
        turn1: Of the first turns.
        turn2: Of the second turns.
        average: Of both together.
        n: Values averaged; judgments, or medians over repeats.
        failed: Judgments without a score.
    """

    turn1: float | None
    turn2: float | None
    average: float | None
    n: int
    failed: int


@dataclass(frozen=True)
class CategoryScore:
    """Hold the mean over both turns of a category's questions.

    Attributes:
        mean: On the scale of 1 to 10.
        n: Values averaged.
        interval: 95%, by how questions vary; None with one question, or where they do not vary.
    """

    mean: float
    n: int
    interval: Interval | None


@dataclass(frozen=True)
class JudgeVariance:
    """Hold how far a judge differs from itself on the same answers.

    Attributes:
        repeats: How often each answer was judged, at most.
        within: Mean over answers of the standard deviation of their scores.
        of_averages: Standard deviation of the averages that the single repeats give.
    """

    repeats: int
    within: float
    of_averages: float


@dataclass(frozen=True)
class ModelScores(Means):
    """Hold a model's scores under FastChat's rule.

    Attributes:
        intervals: 95% intervals by how questions vary, of ``turn1``, ``turn2`` and ``average``.
        by_category: In MT-Bench's order, others after it by name.
        strict: The averages under the strict reader; None where no judgment has its text.
        raw: The averages under FastChat's rule on the whole text, as show_result has them; None where no judge thought
            in its text.
        raw_differences: Judgments whose score would be another then.
        later: Means of the third turns and those after them, by turn; empty where there are none.
        beyond: Scores that are not from 1 to 10.
        variance: None where no answer was judged twice.
        notes: What a reader should know, as text.
    """

    intervals: Mapping[str, Interval | None]
    by_category: Mapping[str, CategoryScore]
    strict: Means | None
    variance: JudgeVariance | None
    notes: tuple[str, ...]
    raw: Means | None = None
    raw_differences: int = 0
    later: Mapping[int, float] = field(default_factory=dict)
    beyond: int = 0


@dataclass(frozen=True)
class PairedComparison:
    """Compare two models on the same questions.

    Attributes:
        difference: Mean over questions of the first model's score less the second's.
        interval: 95%, by how questions vary; None with one question, or where they do not vary.
        p_value: Two-sided, by exchanging the models' names question by question (9,999 times, or all ways there are).
        n: Questions on which both have a score.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    n: int


def single_scores(
    records: Sequence[JudgmentRecord], *, judge: str | None = None, categories: Mapping[QuestionId, str] | None = None
) -> dict[str, ModelScores]:
    """Return every model's scores, best first.

    Args:
        records: Judgments of single answers.
        judge: Whose; may be None where only one judged.
        categories: Of the questions; where None, the records' own or MT-Bench's.

    Raises:
        SmaugError: the judgments are by several judges and none is chosen.
    """
    models: dict[str, list[JudgmentRecord]] = defaultdict(list)
    for record in of_one_judge(records, judge):
        models[record.model].append(record)
    scores = {model: _model_scores(own, categories) for model, own in models.items()}
    return dict(sorted(scores.items(), key=lambda item: (-(item[1].average or 0.0), item[0])))


def compare(
    records: Sequence[JudgmentRecord], first: str, second: str, *, judge: str | None = None
) -> PairedComparison | None:
    """Return how two models differ on the turns for which both have a score; None where there are none.

    A question counts once: the mean over its turns.

    Raises:
        SmaugError: the judgments are by several judges and none is chosen, or a model has none.
    """
    chosen = of_one_judge(records, judge)
    by_turn = [_by_turn([record for record in chosen if record.model == model]) for model in (first, second)]
    for model, found in zip((first, second), by_turn, strict=True):
        if not found:
            here = ", ".join(sorted({record.model for record in chosen}))
            raise SmaugError(f"{model} has no score; those with judgments are: {here}", fix="choose one of these")
    differences = defaultdict(list)
    for place in by_turn[0].keys() & by_turn[1].keys():
        differences[place[0]].append(by_turn[0][place] - by_turn[1][place])
    if not differences:
        return None
    by_question = {question: mean(differences[question]) for question in sorted(differences, key=str)}
    return PairedComparison(
        difference=mean(by_question.values()),
        interval=mean_interval_over_questions(by_question.items(), scale=_DIFFERENCES),
        p_value=sign_flip_p_value(np.array(list(by_question.values()))) if len(by_question) > 1 else None,
        n=len(by_question),
    )


def scores_as_json(judgments: Judgments, *, judge: str | None = None, baseline: str | None = None) -> dict[str, Any]:
    """Return the scores as plain data.

    ``{model: {turn1, turn2, average, n, failed}}`` of single answers, ``{model: {win, loss, tie, win_rate_adjusted}}``
    of pairs; a model with both kinds has all of these keys.

    Raises:
        SmaugError: as :func:`single_scores` and :func:`smaug_eval.mt_bench.scores.pairs.pair_scores`.
    """
    found: dict[str, dict[str, Any]] = {}
    for model, single in single_scores(judgments.single, judge=judge).items() if judgments.single else ():
        found[model] = {key: getattr(single, key) for key in ("turn1", "turn2", "average", "n", "failed")}
    for model, pair in pair_scores(judgments.pairs, judge=judge, baseline=baseline).items() if judgments.pairs else ():
        own = {key: getattr(pair, key) for key in ("win", "loss", "tie", "win_rate_adjusted")}
        found[model] = found.get(model, {}) | own
    return found


def _model_scores(records: Sequence[JudgmentRecord], categories: Mapping[QuestionId, str] | None) -> ModelScores:
    cells = cells_of(records, _recorded, categories)
    turns = {"turn1": _values(cells, 1), "turn2": _values(cells, 2), "average": _values(cells)}
    means = _means(cells, _failed(records, _recorded))
    has_text = any(record.judgment for record in records)
    differing = sum("raw_score" in record.smaug for record in records)
    thought = differing or any(split_thinking(record.judgment).found for record in records)
    later = sorted({cell.turn for cell in cells if cell.turn > 2})
    return ModelScores(
        **vars(means),
        intervals={name: mean_interval_over_questions(values, scale=_SCALE) for name, values in turns.items()},
        by_category=_by_category(cells),
        strict=_means(cells_of(records, _strict), _failed(records, _strict)) if has_text else None,
        variance=_variance(records, cells),
        notes=_notes(records),
        raw=_means(cells_of(records, _raw), _failed(records, _raw)) if thought else None,
        raw_differences=differing,
        later={turn: value for turn in later if (value := _mean(_values(cells, turn))) is not None},
        beyond=_beyond(records),
    )


def _raw(record: JudgmentRecord) -> float | None:
    """The score by FastChat's rule on the whole text, where it is another than the one of record."""
    raw = record.smaug.get("raw_score", record.value)
    return None if raw is None or raw == FAILED else float(raw)


def _beyond(records: Iterable[JudgmentRecord]) -> int:
    values = (record.value for record in records if record.verdict is None)
    return sum(value is not None and not LOWEST <= value <= HIGHEST for value in values)


def _recorded(record: JudgmentRecord) -> float | None:
    return record.value


def _strict(record: JudgmentRecord) -> float | None:
    if record.verdict is not None:
        return record.value
    return strict_score(split_thinking(record.judgment).answer)


def _values(cells: Iterable[JudgedTurn], turn: int | None = None) -> list[tuple[QuestionId, float]]:
    return [(cell.question_id, cell.score) for cell in cells if cell.score is not None and turn in (None, cell.turn)]


def _mean(values: Sequence[tuple[QuestionId, float]]) -> float | None:
    return mean(value for _, value in values) if values else None


def _means(cells: Sequence[JudgedTurn], failed: int) -> Means:
    scored = _values(cells)
    return Means(_mean(_values(cells, 1)), _mean(_values(cells, 2)), _mean(scored), len(scored), failed)


def _failed(records: Iterable[JudgmentRecord], read: Reader) -> int:
    return sum(read(record) is None for record in records)


def _by_category(cells: Sequence[JudgedTurn]) -> dict[str, CategoryScore]:
    names = {cell.category for cell in cells if cell.category is not None}
    order = [name for name in CATEGORIES if name in names] + sorted(names - set(CATEGORIES))
    found = {}
    for name in order:
        values = _values(cell for cell in cells if cell.category == name)
        if values:
            average = mean(value for _, value in values)
            found[name] = CategoryScore(average, len(values), mean_interval_over_questions(values, scale=_SCALE))
    return found


def _variance(records: Sequence[JudgmentRecord], cells: Sequence[JudgedTurn]) -> JudgeVariance | None:
    repeated = [cell.values for cell in cells if len(cell.values) > 1]
    averages: dict[int | None, list[float]] = defaultdict(list)
    for record in records:
        if record.value is not None:
            averages[record.repeat].append(record.value)
    if not repeated or len(averages) < 2:
        return None
    return JudgeVariance(
        repeats=len(averages),
        within=mean(map(stdev, repeated)),
        of_averages=stdev(mean(values) for values in averages.values()),
    )


def _notes(records: Sequence[JudgmentRecord]) -> tuple[str, ...]:
    again = lines_there_again(records, lambda record: (record.question_id, record.turn))
    beyond, raw = _beyond(records), sum("raw_score" in record.smaug for record in records)
    found = (
        (again, "judgments of a question and turn that an earlier line judges: {}; each counts, as in show_result"),
        (beyond, f"scores that are not from {LOWEST} to {HIGHEST}: {{}}; each counts, as in show_result"),
        (raw, "judgments whose score FastChat's rule would take from the judge's thinking: {}; read behind it here"),
    )
    return tuple(text.format(number) for number, text in found if number)


def _by_turn(records: Sequence[JudgmentRecord]) -> dict[tuple[QuestionId, int], float]:
    values: dict[tuple[QuestionId, int], list[float]] = defaultdict(list)
    for cell in cells_of(records, _recorded):
        if cell.score is not None:
            values[cell.question_id, cell.turn].append(cell.score)
    return {place: mean(own) for place, own in values.items()}
