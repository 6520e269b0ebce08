"""Count pairwise wins by FastChat's rule (show_result.py), with intervals and the judge's position bias."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.thinking import split_thinking
from smaug_eval.mt_bench.files.questions import QuestionId
from smaug_eval.mt_bench.files.records import PairJudgmentRecord
from smaug_eval.mt_bench.judge.parsing import strict_winner
from smaug_eval.mt_bench.scores.cells import (
    grouped_repeats,
    lines_there_again,
    mean_interval_over_questions,
    of_one_judge,
)
from smaug_eval.stats import Interval, Strength, bradley_terry

_WIN, _TIE, _LOSS = 1.0, 0.5, 0.0
_SHOWN = ({"A": "model_1", "B": "model_2"}, {"A": "model_2", "B": "model_1"})


@dataclass(frozen=True)
class PairwiseScores:
    """Hold how a model fared against the others.

    Attributes:
        win: Pairs in which both games went to it.
        loss: Pairs in which both games went to the other.
        tie: All other pairs: both games tied, or the two orders disagree.
        failed: Pairs in which a game has no verdict; they count nowhere, as in show_result.
        interval: 95% interval of ``win_rate_adjusted``, by how questions vary; None where they do not.
        notes: What a reader should know, as text.
        strict: ``win_rate_adjusted`` under the strict reader; None where no judgment has its text.
        raw: The same under FastChat's rule on the whole texts; None where no judge thought in its text.
        raw_differences: Pairs whose outcome would be another then.
    """

    win: int
    loss: int
    tie: int
    failed: int
    interval: Interval | None
    notes: tuple[str, ...] = ()
    strict: float | None = None
    raw: float | None = None
    raw_differences: int = 0

    @property
    def n(self) -> int:
        """Return the pairs that count."""
        return self.win + self.loss + self.tie

    @property
    def win_rate(self) -> float:
        """Return the share of wins."""
        return self.win / self.n

    @property
    def loss_rate(self) -> float:
        """Return the share of losses."""
        return self.loss / self.n

    @property
    def win_rate_adjusted(self) -> float:
        """Return the share of wins, a tie being half a win."""
        return (self.win + 0.5 * self.tie) / self.n


@dataclass(frozen=True)
class PositionBias:
    """Hold whether showing the same two answers in the other order changes the verdict.

    Attributes:
        pairs: Pairs judged in both orders.
        consistent: Pairs in which both orders have the same verdict.
        first: Pairs in which they differ in favour of the answer shown first (also by a tie in one order).
        second: The same for the answer shown second.
    """

    pairs: int
    consistent: int
    first: int
    second: int


def pair_scores(
    records: Sequence[PairJudgmentRecord], *, judge: str | None = None, baseline: str | None = None
) -> dict[str, PairwiseScores]:
    """Return every model's wins, losses and ties, best first; models without a pair that counts are left out.

    Several judgments of the same pair marked as repeats count once, by the median of their outcomes.

    Args:
        records: Judgments of pairs.
        judge: Whose; may be None where only one judged.
        baseline: Count only pairs with this model, and leave it out itself (show_result's pairwise-baseline).

    Raises:
        SmaugError: the judgments are by several judges and none is chosen, or the baseline is in no pair.
    """
    chosen = of_one_judge(records, judge)
    if baseline is not None:
        chosen = _against(chosen, baseline)
    notes = _notes(chosen)
    strict = _rates(_read(chosen, _strict_winners), baseline) if any(record.g1_judgment for record in chosen) else {}
    thought = any(split_thinking(text).found for record in chosen for text in (record.g1_judgment, record.g2_judgment))
    differing = [record for record in chosen if "raw_winners" in record.smaug]
    raw = _rates(_read(chosen, _raw_winners), baseline) if thought or differing else {}
    scores = {}
    for model, own in _results(chosen).items():
        if model != baseline:
            apart = sum(model in (record.model_1, record.model_2) for record in differing)
            scores[model] = replace(
                _scores(own, notes), strict=strict.get(model), raw=raw.get(model), raw_differences=apart
            )
    counted = {model: own for model, own in scores.items() if own.n}
    return dict(sorted(counted.items(), key=lambda item: (-item[1].win_rate_adjusted, item[0])))


def pairs_without_verdict(records: Sequence[PairJudgmentRecord]) -> dict[str, int]:
    """Count the pairs without a verdict of each model that is in no pair with one."""
    counts: dict[str, list[float | None]] = defaultdict(list)
    for record in records:
        for model in (record.model_1, record.model_2):
            counts[model].append(outcome(record))
    return {model: len(own) for model, own in counts.items() if all(value is None for value in own)}


def model_strengths(records: Sequence[PairJudgmentRecord], *, judge: str | None = None) -> dict[str, Strength]:
    """Fit Bradley and Terry's strengths of the models, with intervals by drawing questions.

    Empty with one pair of models.

    Raises:
        SmaugError: the judgments are by several judges and none is chosen.
    """
    games, questions = [], []
    for group in grouped_repeats(of_one_judge(records, judge), _place):
        found = _median_outcome(group)
        if found is not None:
            games.append((group[0].model_1, group[0].model_2, found))
            questions.append(group[0].question_id)
    return bradley_terry(games, questions) if len({name for game in games for name in game[:2]}) > 2 else {}


def _results(records: Sequence[PairJudgmentRecord]) -> dict[str, list[tuple[QuestionId, float | None]]]:
    """Every model's outcomes with their questions; repeats count once."""
    results: dict[str, list[tuple[QuestionId, float | None]]] = defaultdict(list)
    for group in grouped_repeats(records, _place):
        found, record = _median_outcome(group), group[0]
        results[record.model_1].append((record.question_id, found))
        results[record.model_2].append((record.question_id, None if found is None else _WIN - found))
    return dict(results)


def _rates(records: Sequence[PairJudgmentRecord], baseline: str | None) -> dict[str, float]:
    """Every model's wins and half of its ties, of the pairs that count."""
    rates = {}
    for model, own in _results(records).items():
        values = [value for _, value in own if value is not None]
        if values and model != baseline:
            rates[model] = mean(values)
    return rates


def _read(
    records: Sequence[PairJudgmentRecord], read: Callable[[PairJudgmentRecord], tuple[str, str]]
) -> list[PairJudgmentRecord]:
    found = ((record, read(record)) for record in records)
    return [replace(record, g1_winner=first, g2_winner=second) for record, (first, second) in found]


def _strict_winners(record: PairJudgmentRecord) -> tuple[str, str]:
    if record.verdict is not None or not record.g1_judgment:
        return record.g1_winner, record.g2_winner
    texts = (split_thinking(text).answer for text in (record.g1_judgment, record.g2_judgment))
    first, second = (strict_winner(text) or "error" for text in texts)
    return _SHOWN[0].get(first, first), _SHOWN[1].get(second, second)


def _raw_winners(record: PairJudgmentRecord) -> tuple[str, str]:
    raw = record.smaug.get("raw_winners")
    if isinstance(raw, list | tuple) and len(raw) == 2:
        return str(raw[0]), str(raw[1])
    return record.g1_winner, record.g2_winner


def position_bias(records: Sequence[PairJudgmentRecord], *, judge: str | None = None) -> PositionBias:
    """Return how often the order of two answers decided.

    Pairs without a verdict, or with one verdict for both, are left out.

    Raises:
        SmaugError: the judgments are by several judges and none is chosen.
    """
    verdicts = [(record.g1_winner, record.g2_winner) for record in of_one_judge(records, judge)]
    judged = [pair for pair in verdicts if not {"error", "inconsistent"} & set(pair)]
    leans = [_lean(*pair) for pair in judged]
    return PositionBias(len(judged), leans.count(0), leans.count(1), leans.count(-1))


def outcome(record: PairJudgmentRecord) -> float | None:
    """Return what a pair is for ``model_1``: 1 a win, 0.5 a tie, 0 a loss; None where a game has no verdict."""
    if "error" in (record.g1_winner, record.g2_winner):
        return None
    if record.g1_winner != record.g2_winner or record.g1_winner in ("tie", "inconsistent"):
        return _TIE
    return _WIN if record.g1_winner == "model_1" else _LOSS


def _place(record: PairJudgmentRecord) -> tuple[object, ...]:
    return record.question_id, record.turn, record.model_1, record.model_2


def _against(records: Sequence[PairJudgmentRecord], baseline: str) -> list[PairJudgmentRecord]:
    found = [record for record in records if baseline in (record.model_1, record.model_2)]
    if records and not found:
        here = ", ".join(sorted({model for record in records for model in (record.model_1, record.model_2)}))
        raise SmaugError(f"baseline {baseline!r} is in no pair; the models are: {here}", fix="choose one of these")
    return found


def _median_outcome(group: Sequence[PairJudgmentRecord]) -> float | None:
    outcomes = [found for record in group if (found := outcome(record)) is not None]
    if not outcomes:
        return None
    middle = median(outcomes)
    return _TIE if middle == _TIE else _WIN if middle > _TIE else _LOSS


def _scores(results: Sequence[tuple[QuestionId, float | None]], notes: tuple[str, ...]) -> PairwiseScores:
    counted = [(question, value) for question, value in results if value is not None]
    values = [value for _, value in counted]
    return PairwiseScores(
        win=values.count(_WIN),
        loss=values.count(_LOSS),
        tie=values.count(_TIE),
        failed=len(results) - len(values),
        interval=mean_interval_over_questions(counted, scale=(_LOSS, _WIN)),
        notes=notes,
    )


def _lean(g1_winner: str, g2_winner: str) -> int:
    """1 where the two orders differ in favour of the position shown first, -1 of the second, 0 where they agree."""
    if g1_winner == g2_winner:
        return 0
    first = mean([_points(g1_winner, "model_1"), _points(g2_winner, "model_2")])
    return 1 if first > _TIE else -1


def _points(winner: str, model: str) -> float:
    return _TIE if winner == "tie" else _WIN if winner == model else _LOSS


def _notes(records: Sequence[PairJudgmentRecord]) -> tuple[str, ...]:
    again, raw = lines_there_again(records, _place), sum("raw_winners" in record.smaug for record in records)
    found = (
        (again, "judgments of a pair and turn that an earlier line judges: {}; each counts, as in show_result"),
        (raw, "pairs whose outcome FastChat's rule would take from the judge's thinking: {}; read behind it here"),
    )
    return tuple(text.format(number) for number, text in found if number)
