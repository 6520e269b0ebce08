"""Who wins pairwise: FastChat's counting (show_result.py), with intervals and how far the judge prefers a position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard.intervals import Interval
from smaug_eval.mt_bench.cells import grouped_repeats, lines_there_again, mean_interval_over_questions, of_one_judge
from smaug_eval.mt_bench.questions import QuestionId
from smaug_eval.mt_bench.records import PairJudgmentRecord

_WIN, _TIE, _LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True)
class PairScores:
    """How a model fared against the others.

    Attributes:
        win: Pairs in which both games went to it.
        loss: Pairs in which both games went to the other.
        tie: All other pairs: both games tied, or the two orders disagree.
        failed: Pairs in which a game has no verdict; they count nowhere, as in show_result.
        interval: 95% interval of ``win_rate_adjusted``, by how questions vary; None where they do not.
        notes: In plain words, what a reader should know.
    """

    win: int
    loss: int
    tie: int
    failed: int
    interval: Interval | None
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Pairs that count."""
        return self.win + self.loss + self.tie

    @property
    def win_rate(self) -> float:
        """Share of wins."""
        return self.win / self.n

    @property
    def loss_rate(self) -> float:
        """Share of losses."""
        return self.loss / self.n

    @property
    def win_rate_adjusted(self) -> float:
        """Share of wins, a tie being half a win."""
        return (self.win + 0.5 * self.tie) / self.n


@dataclass(frozen=True)
class PositionBias:
    """Whether showing the same two answers in the other order changes the verdict.

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
) -> dict[str, PairScores]:
    """Every model's wins, losses and ties, best first; models without a pair that counts are left out.

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
    results: dict[str, list[tuple[QuestionId, float | None]]] = defaultdict(list)
    for group in grouped_repeats(chosen, _place):
        outcome, record = _median_outcome(group), group[0]
        results[record.model_1].append((record.question_id, outcome))
        results[record.model_2].append((record.question_id, None if outcome is None else _WIN - outcome))
    notes = _notes(chosen)
    scores = {model: _scores(own, notes) for model, own in results.items() if model != baseline}
    counted = {model: own for model, own in scores.items() if own.n}
    return dict(sorted(counted.items(), key=lambda item: (-item[1].win_rate_adjusted, item[0])))


def position_bias(records: Sequence[PairJudgmentRecord], *, judge: str | None = None) -> PositionBias:
    """How often the order of two answers decided; pairs without a verdict, or with one verdict for both, are left out.

    Raises:
        SmaugError: the judgments are by several judges and none is chosen.
    """
    verdicts = [(record.g1_winner, record.g2_winner) for record in of_one_judge(records, judge)]
    judged = [pair for pair in verdicts if not {"error", "inconsistent"} & set(pair)]
    leans = [_lean(*pair) for pair in judged]
    return PositionBias(len(judged), leans.count(0), leans.count(1), leans.count(-1))


def outcome(record: PairJudgmentRecord) -> float | None:
    """What a pair is for ``model_1``: 1 a win, 0.5 a tie, 0 a loss; None where a game has no verdict."""
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


def _scores(results: Sequence[tuple[QuestionId, float | None]], notes: tuple[str, ...]) -> PairScores:
    counted = [(question, value) for question, value in results if value is not None]
    values = [value for _, value in counted]
    return PairScores(
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
    again = lines_there_again(records, _place)
    if not again:
        return ()
    return (f"judgments of a pair and turn that an earlier line judges: {again}; each counts, as in show_result",)
