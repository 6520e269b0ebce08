"""Show judges' reasons: for every question and turn what the judge saw, wrote and concluded, model by model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from smaug_eval.common.text import Excerpt, head
from smaug_eval.mt_bench.files.records import JudgmentRecord, PairJudgmentRecord
from smaug_eval.mt_bench.scores.cells import category_of
from smaug_eval.reports.html.anchors import Anchors
from smaug_eval.reports.html.browser import JUDGMENTS, Control, coded, codes_of, filter_words, options, switch, word
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.judged import JudgedSet

ITEMS_SHOWN = 400
"""Most questions and turns on the page, over all sets; MT-Bench has 80 questions of two turns."""
PROMPT_CHARACTERS = 6000
JUDGMENT_CHARACTERS = 4000

OUTCOMES = {"higher": "higher", "lower": "lower", "same": "same", "failed": "no verdict"}
"""What a judge can make of a model's answer against the baseline's; of a pair, a winner in both orders is higher."""

AnsweredTurn = tuple[str, int]


class Reason(NamedTuple):
    """Hold one judgment.

    Attributes:
        who: Whose answer, or which pair in which order.
        verdict: The score or the winner as recorded.
        prompt: What the judge was sent: question, answers, and the reference where there is one.
        judgment: What it wrote.
    """

    who: str
    verdict: str
    prompt: Excerpt
    judgment: Excerpt


class JudgedItem(NamedTuple):
    """Hold one turn of one question.

    Attributes:
        anchor: Its id on the page.
        question: The question's id.
        turn: 1 or 2.
        category: The question's, where it was recorded.
        tags: Model to its outcome against the baseline.
        outcomes: What the filter finds it under.
        reasons: The judgments, the baseline's first.
        against: For each choice of baseline a word, a letter for each model's outcome against it.
    """

    anchor: str
    question: str
    turn: int
    category: str
    tags: dict[str, str]
    outcomes: list[str]
    reasons: list[Reason]
    against: str = ""


class JudgedItems(NamedTuple):
    """Hold a set's entries; ``total`` counts those that are not on the page too."""

    title: str
    judge: str
    total: int
    items: list[JudgedItem]


def judgments(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show what judges wrote of each answer."""
    models = comparison.judged_models
    if not models:
        return None
    if comparison.baseline in models:
        models = list(dict.fromkeys([comparison.baseline, *models]))
    baselines = [each if each in models else comparison.judged_models[0] for each in comparison.choices]
    anchors, left, sets = Anchors("judgment"), ITEMS_SHOWN, []
    for each in comparison.dialogues:
        places = _places(each)
        if places:
            items = [
                _item(anchors, each, place, records, models)._replace(against=_against_all(records, models, baselines))
                for place, records in list(places.items())[:left]
            ]
            left -= len(items)
            sets.append(JudgedItems(each.key.title, each.key.judge, len(places), items))
    if not sets:
        return None
    others = list(enumerate(models))[1:]
    has_many = len(sets) > 1
    categories = list(dict.fromkeys(item.category for each in sets for item in each.items if item.category))
    return {
        "sets": sets,
        "shown": sum(len(each.items) for each in sets),
        "total": sum(each.total for each in sets),
        "outcomes": OUTCOMES,
        "baseline": models[0],
        "switch": switch(models, baselines, codes_of(list(OUTCOMES)), OUTCOMES, named=True),
        "controls": [
            *([Control("set", "set", [(str(number), _name(each)) for number, each in enumerate(sets)])] * has_many),
            *([Control("outcome", "outcome", options(OUTCOMES, others))] if others else []),
            Control("turn", "turn", [("1", "1"), ("2", "2")]),
            *([Control("category", "category", [(word(each), each) for each in categories])] if categories else []),
        ],
    }


def _name(each: JudgedItems) -> str:
    return f"{each.title}, {each.judge}" if each.judge else each.title


JudgedRecords = tuple[list[JudgmentRecord], list[PairJudgmentRecord]]


def _places(each: JudgedSet) -> dict[AnsweredTurn, JudgedRecords]:
    """Group the judgments of each turn of each question, in the order of the files."""
    places: dict[AnsweredTurn, JudgedRecords] = defaultdict(lambda: ([], []))
    for single in each.judgments.single:
        places[str(single.question_id), single.turn][0].append(single)
    for pair in each.judgments.pairs:
        places[str(pair.question_id), pair.turn][1].append(pair)
    return dict(places)


def _item(
    anchors: Anchors, each: JudgedSet, place: AnsweredTurn, records: JudgedRecords, models: Sequence[str]
) -> JudgedItem:
    singles = sorted(records[0], key=lambda record: models.index(record.model))
    tags = _single_outcomes(singles, models[0]) or _pair_outcomes(records[1], models[0])
    both: list[JudgmentRecord | PairJudgmentRecord] = [*singles, *records[1]]
    categories = (category_of(record, {}) for record in both)
    question, turn = place
    return JudgedItem(
        anchor=anchors.of(each.key.title, each.key.judge, question, str(turn)),
        question=question,
        turn=turn,
        category=next(filter(None, categories), ""),
        tags=tags,
        outcomes=filter_words([tags.get(model) for model in models]),
        reasons=[*map(_single_reason, singles), *(reason for pair in records[1] for reason in _pair_reasons(pair))],
    )


def _against_all(records: JudgedRecords, models: Sequence[str], baselines: Sequence[str]) -> str:
    """Return the outcomes of all models against each baseline, as words of letters."""
    codes = codes_of(list(OUTCOMES))
    words = []
    for baseline in baselines:
        found = _single_outcomes(records[0], baseline) or _pair_outcomes(records[1], baseline)
        words.append(coded([found.get(model) for model in models], codes))
    return " ".join(words)


def _single_outcomes(records: Sequence[JudgmentRecord], baseline: str) -> dict[str, str]:
    """Compare each model's mean score over repeats with the baseline's."""
    values: dict[str, list[float | None]] = defaultdict(list)
    for record in records:
        values[record.model].append(record.value)
    reference = values.get(baseline)
    if reference is None:
        return {}
    return {model: _against(_mean(own), _mean(reference)) for model, own in values.items() if model != baseline}


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _against(own: float | None, reference: float | None) -> str:
    if own is None or reference is None:
        return "failed"
    return "same" if own == reference else "higher" if own > reference else "lower"


def _pair_outcomes(records: Sequence[PairJudgmentRecord], baseline: str) -> dict[str, str]:
    """Say what the pairs with the baseline say of the other model; only a winner in both orders counts as one."""
    outcomes = {}
    for record in records:
        names = {"model_1": record.model_1, "model_2": record.model_2}
        if baseline in names.values():
            (other,) = set(names.values()) - {baseline} or {baseline}
            winners = {record.g1_winner, record.g2_winner}
            winner = names.get(record.g1_winner) if len(winners) == 1 else None
            is_failed = "error" in winners
            outcomes[other] = "failed" if is_failed else _won(winner, other)
    return outcomes


def _won(winner: str | None, other: str) -> str:
    return "same" if winner is None else "higher" if winner == other else "lower"


def _single_reason(record: JudgmentRecord) -> Reason:
    repeat = "" if record.repeat in {None, 1} else f", repeat {record.repeat}"
    verdict = "no score" if record.value is None else f"score {record.value:g}"
    return _reason(f"{record.model}{repeat}", verdict, record.user_prompt, record.judgment)


def _pair_reasons(record: PairJudgmentRecord) -> Iterator[Reason]:
    names = {"model_1": f"{record.model_1} wins", "model_2": f"{record.model_2} wins", "error": "no winner"}
    games = (
        (record.model_1, record.model_2, record.g1_winner, record.g1_user_prompt, record.g1_judgment),
        (record.model_2, record.model_1, record.g2_winner, record.g2_user_prompt, record.g2_judgment),
    )
    for first, second, winner, prompt, judgment in games:
        yield _reason(f"{first} shown before {second}", names.get(winner, winner), prompt, judgment)


def _reason(who: str, verdict: str, prompt: str, judgment: str) -> Reason:
    return Reason(who, verdict, head(prompt, PROMPT_CHARACTERS), head(judgment, JUDGMENT_CHARACTERS))


PANEL = Panel(JUDGMENTS, "Judges' reasons", judgments, same_for_all=True)
