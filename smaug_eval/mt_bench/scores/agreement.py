"""Compare several judges of the same answers, people among them: how far they agree, and their joint score."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median, stdev

from smaug_eval.mt_bench.files.foreign import is_human
from smaug_eval.mt_bench.files.questions import QuestionId
from smaug_eval.mt_bench.files.records import JudgmentRecord, Judgments, PairJudgmentRecord
from smaug_eval.mt_bench.judge.parsing import HIGHEST, LOWEST
from smaug_eval.mt_bench.scores.cells import category_of, mean_interval_over_questions
from smaug_eval.mt_bench.scores.pairs import outcome
from smaug_eval.mt_bench.scores.stopped import stopped_of
from smaug_eval.stats import Interval, cohen_kappa, quadratic_kappa

HUMANS = "people"
"""What the people of a file of votes are called together."""
SCORES, PAIRS = "scores", "pairs"
_TIE = 0.5

JudgedPlace = tuple[QuestionId, int, tuple[str, ...]]
"""Question, turn, and models."""


@dataclass(frozen=True)
class Agreement:
    """Hold how far two judges agree.

    Attributes:
        judges: Their names; twice the same one for people among themselves.
        kind: ``scores`` of single answers, or ``pairs``.
        n: Verdicts of both on the same answers; of several people each counts.
        share: Of these the share that are equal.
        interval: 95% of ``share``, by how questions vary.
        kappa: Cohen's, of scores with quadratic weights; None where one of them always says the same.
        within_one: Share of the scores that are at most one point apart; None for pairs.
        decided: Share of equal ones where neither says tie; None for scores, or where there are none.
        by_category: Category to number, share and kappa.
    """

    judges: tuple[str, str]
    kind: str
    n: int
    share: float
    interval: Interval | None
    kappa: float | None
    within_one: float | None = None
    decided: float | None = None
    by_category: Mapping[str, tuple[int, float, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class PanelScore:
    """Hold several judges' joint score of a model.

    It is the mean of their scores of every answer that all of them judged.

    Attributes:
        average: Mean over answers.
        interval: 95%, by how questions vary.
        n: Answers that every judge gave a score.
        between: Standard deviation of the judges' own averages over these answers.
    """

    average: float
    interval: Interval | None
    n: int
    between: float


def judges_of(judgments: Judgments) -> list[str]:
    """Return the judges' names, people as one."""
    names = [record.judge[0] for record in judgments.every]
    return list(dict.fromkeys(HUMANS if is_human(name) else name for name in names))


def agreements(judgments: Judgments) -> list[Agreement]:
    """Compare every two judges that judged the same answers, and people where several voted on the same."""
    found = []
    for kind, votes, categories in (
        (SCORES, *_score_votes(judgments.single)),
        (PAIRS, *_pair_votes(judgments.pairs)),
    ):
        names = list(votes)
        for first, second in itertools.combinations(names, 2):
            found.append(_agreement((first, second), kind, list(_matched(votes[first], votes[second])), categories))
        if HUMANS in votes:
            among = [
                (place, one, other)
                for place, own in votes[HUMANS].items()
                for one, other in itertools.combinations(own, 2)
            ]
            found.append(_agreement((HUMANS, HUMANS), kind, among, categories))
    return [each for each in found if each is not None]


def panel_scores(records: Sequence[JudgmentRecord]) -> dict[str, PanelScore]:
    """Return every model's scores by several judges together, best first; empty with one judge."""
    votes, _ = _score_votes(records)
    if len(votes) < 2:
        return {}
    common = set.intersection(*(set(own) for own in votes.values()))
    by_model: dict[str, list[JudgedPlace]] = defaultdict(list)
    for place in sorted(common, key=str):
        by_model[place[2][0]].append(place)
    found = {}
    for model, places in by_model.items():
        values = [(place[0], mean(mean(own[place]) for own in votes.values())) for place in places]
        averages = [mean(mean(own[place]) for place in places) for own in votes.values()]
        is_early = stopped_of(record for record in records if record.model == model) is not None
        interval = None if is_early else mean_interval_over_questions(values, scale=(float(LOWEST), float(HIGHEST)))
        found[model] = PanelScore(mean(value for _, value in values), interval, len(values), stdev(averages))
    return dict(sorted(found.items(), key=lambda item: (-item[1].average, item[0])))


Votes = dict[str, dict[JudgedPlace, list[float]]]


def _score_votes(records: Sequence[JudgmentRecord]) -> tuple[Votes, dict[JudgedPlace, str]]:
    return _votes(
        ((record, (record.question_id, record.turn, (record.model,)), record.value) for record in records), median
    )


def _pair_votes(records: Sequence[PairJudgmentRecord]) -> tuple[Votes, dict[JudgedPlace, str]]:
    return _votes(map(_pair_vote, records), lambda values: _rounded(median(values)))


def _rounded(value: float) -> float:
    return _TIE if value == _TIE else float(value > _TIE)


def _pair_vote(record: PairJudgmentRecord) -> tuple[PairJudgmentRecord, JudgedPlace, float | None]:
    """What a pair is for the model whose name comes first, whichever was shown first."""
    found = outcome(record)
    models = tuple(sorted((record.model_1, record.model_2)))
    if found is not None and models[0] != record.model_1:
        found = 1 - found
    return record, (record.question_id, record.turn, models), found


def _votes(
    given: Iterator[tuple[JudgmentRecord | PairJudgmentRecord, JudgedPlace, float | None]]
    | map[tuple[PairJudgmentRecord, JudgedPlace, float | None]],
    middle: Callable[[list[float]], float],
) -> tuple[Votes, dict[JudgedPlace, str]]:
    """By judge and place what was said: of a model's repeats the median, of people each vote; and categories."""
    votes: dict[str, dict[JudgedPlace, list[float]]] = defaultdict(lambda: defaultdict(list))
    categories: dict[JudgedPlace, str] = {}
    for record, place, value in given:
        if value is not None:
            votes[HUMANS if is_human(record.judge[0]) else record.judge[0]][place].append(value)
        if (category := category_of(record, {})) is not None:
            categories[place] = category
    return {
        judge: {place: own if judge == HUMANS else [middle(own)] for place, own in places.items()}
        for judge, places in votes.items()
    }, categories


def _matched(
    first: Mapping[JudgedPlace, list[float]], second: Mapping[JudgedPlace, list[float]]
) -> Iterator[tuple[JudgedPlace, float, float]]:
    for place, own in first.items():
        for one, other in itertools.product(own, second.get(place, [])):
            yield place, one, other


def _agreement(
    judges: tuple[str, str],
    kind: str,
    matched: Sequence[tuple[JudgedPlace, float, float]],
    categories: Mapping[JudgedPlace, str],
) -> Agreement | None:
    if not matched:
        return None
    groups: dict[str, list[tuple[JudgedPlace, float, float]]] = defaultdict(list)
    for each in matched:
        if each[0] in categories:
            groups[categories[each[0]]].append(each)
    equal = [(place[0], float(one == other)) for place, one, other in matched]
    decided = [one == other for _, one, other in matched if _TIE not in (one, other)]
    return Agreement(
        judges,
        kind,
        len(matched),
        mean(value for _, value in equal),
        mean_interval_over_questions(equal, scale=(0.0, 1.0)),
        _kappa(kind, matched),
        within_one=mean(float(abs(one - other) <= 1) for _, one, other in matched) if kind == SCORES else None,
        decided=mean(map(float, decided)) if kind == PAIRS and decided else None,
        by_category={
            name: (len(own), mean(float(one == other) for _, one, other in own), _kappa(kind, own))
            for name, own in groups.items()
        },
    )


def _kappa(kind: str, matched: Sequence[tuple[JudgedPlace, float, float]]) -> float | None:
    first, second = [one for _, one, _ in matched], [other for _, _, other in matched]
    return quadratic_kappa(first, second) if kind == SCORES else cohen_kappa(first, second)
