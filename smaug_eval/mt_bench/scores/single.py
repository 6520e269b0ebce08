"""Score single answers: FastChat's averages, with intervals, under both parsing rules; compare two models.

The average is over all judgments, not of the two turns' means, and leaves out those without a score, as show_result's
does; here they are counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from smaug_eval.mt_bench.scores.stopped import StoppedJudging, stopped_of
from smaug_eval.stats import Interval, Outcome, sign_flip_p_value

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
        intervals: 95% intervals by how questions vary, of ``turn1``, ``turn2`` and ``average``; where the judging
            stopped early, the anytime-valid one of ``average`` alone.
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
        stopped: Where the judging of one of the two stopped early: what to say, else empty. The interval is then the
            anytime-valid one of this comparison, or None where another one was decided, and there is no p value.
        decided: What was decided of this comparison then.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    n: int
    stopped: str = ""
    decided: Outcome | None = None


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
    own = {model: [record for record in chosen if record.model == model] for model in (first, second)}
    for model, found in own.items():
        if not _by_turn(found):
            here = ", ".join(sorted({record.model for record in chosen}))
            raise SmaugError(f"{model} has no score; those with judgments are: {here}", fix="choose one of these")
    by_question = question_differences(chosen, first, second)
    if not by_question:
        return None
    difference = mean(by_question.values())
    stops = {model: stopped_of(found) for model, found in own.items()}
    if any(stops.values()):
        return _decided(difference, len(by_question), first, second, stops)
    return PairedComparison(
        difference=difference,
        interval=mean_interval_over_questions(by_question.items(), scale=_DIFFERENCES),
        p_value=sign_flip_p_value(np.array(list(by_question.values()))) if len(by_question) > 1 else None,
        n=len(by_question),
    )


def _decided(
    difference: float, n: int, first: str, second: str, stops: Mapping[str, StoppedJudging | None]
) -> PairedComparison:
    """The comparison of two models of which the judging of one stopped early."""
    for model, other, sign in ((first, second, 1), (second, first, -1)):
        found = stops[model]
        if found is not None and found.against == other and found.interval is not None and n == found.n:
            low, high = sorted(sign * end for end in found.interval)
            outcome = found.outcome
            if sign < 0 and outcome is not None:
                outcome = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}.get(outcome, outcome)
            return PairedComparison(difference, (low, high), None, n, found.words, outcome)
    return PairedComparison(difference, None, None, n, "stopped early: nothing is tested", Outcome.INCONCLUSIVE)


def question_differences(records: Sequence[JudgmentRecord], first: str, second: str) -> dict[QuestionId, float]:
    """Return by question how two models differ: the mean over the turns for which both have a score.

    Args:
        records: Judgments by one judge.
        first: A model.
        second: The model whose scores are taken off.
    """
    own, other = (_by_turn([record for record in records if record.model == model]) for model in (first, second))
    differences = defaultdict(list)
    for place in own.keys() & other.keys():
        differences[place[0]].append(own[place] - other[place])
    return {question: mean(differences[question]) for question in sorted(differences, key=str)}


def question_scores(records: Sequence[JudgmentRecord], model: str) -> dict[QuestionId, float]:
    """Return a model's mean score over the turns of each question.

    Args:
        records: Judgments by one judge.
        model: Whose.
    """
    found = defaultdict(list)
    for (question, _), score in _by_turn([record for record in records if record.model == model]).items():
        found[question].append(score)
    return {question: mean(scores) for question, scores in found.items()}


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
    intervals = {name: mean_interval_over_questions(values, scale=_SCALE) for name, values in turns.items()}
    by_category, stopped = _by_category(cells), stopped_of(records)
    if stopped is not None:  # those above are for a number of questions that is known before
        intervals = {**dict.fromkeys(intervals), "average": stopped.score_interval}
        by_category = {name: replace(own, interval=None) for name, own in by_category.items()}
    return ModelScores(
        **vars(means),
        intervals=intervals,
        by_category=by_category,
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
    stopped = stopped_of(records)
    told = () if stopped is None else (f"{records[0].model}: {stopped.words}",)
    return (*told, *(text.format(number) for number, text in found if number))


def _by_turn(records: Sequence[JudgmentRecord]) -> dict[tuple[QuestionId, int], float]:
    values: dict[tuple[QuestionId, int], list[float]] = defaultdict(list)
    for cell in cells_of(records, _recorded):
        if cell.score is not None:
            values[cell.question_id, cell.turn].append(cell.score)
    return {place: mean(own) for place, own in values.items()}
