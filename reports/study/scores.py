"""Test whether the remedy's models score better than the subject's on the tasks, over documents and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from smaug_eval.common.text import fixed
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.reports.study.answers import (
    AGAINST,
    StudyAnswer,
    StudyFinding,
    StudyTable,
    Test,
    adjusted,
    beside,
    deciding,
    distance_words,
    names_words,
)
from smaug_eval.results.documents import logged_values
from smaug_eval.results.gates import comparability, is_refused
from smaug_eval.results.layout import evaluation_stage
from smaug_eval.results.study import BASE, StudyResults
from smaug_eval.results.task_results import TaskResult
from smaug_eval.stats import ContrastPart, CrossedContrast, Values, crossed_contrast, nested_weights

POINTS = "points"
AVERAGE = "average"
_FILES = (f"{evaluation_stage('<model>', '<evaluation>', '<task>')}/samples_*.jsonl",)


@dataclass(frozen=True)
class Scores:
    """Hold values of a suite's documents by column, in percent, on the documents that all models share.

    Attributes:
        suite: The suite.
        columns: Its columns that the subject and the remedy were measured on with all of their seeds.
        tasks: For each column the leaf tasks, each with the weight of its mean in the column's score.
        values: Arm (or ``base``) to task to values, shape ``(documents, seeds)``.
        refused: Column's title to why it does not compare.
        left_out: Arms with scores, of which some model was not evaluated (yet) on all that the others were.
    """

    suite: Suite
    columns: Sequence[Column]
    tasks: Sequence[Sequence[tuple[str, float]]]
    values: Mapping[str, Mapping[str, Values]]
    refused: Mapping[str, str]
    left_out: Sequence[str] = ()

    def column(self, place: int, weights: Mapping[str, float]) -> CrossedContrast:
        """Return a weighted sum of the arms' scores in one column, in points."""
        return crossed_contrast(list(self._blocks(place, weights, 1.0)))

    def average(self, weights: Mapping[str, float]) -> CrossedContrast:
        """Average each document's values over the columns."""
        share = 1 / len(self.columns)
        places = range(len(self.columns))
        return crossed_contrast([block for place in places for block in self._blocks(place, weights, share)])

    def _blocks(self, place: int, weights: Mapping[str, float], share: float) -> Iterator[list[ContrastPart]]:
        for task, weight in self.tasks[place]:
            tables = {arm: self.values[arm][task] for arm in weights}
            if BASE in tables:
                # The one model that all trainings start from, as if each seed had it: it is not left to chance.
                tables[BASE] = np.repeat(tables[BASE], max(table.shape[1] for table in tables.values()), axis=1)
            yield [ContrastPart(arm, share * weight * own, tables[arm]) for arm, own in weights.items()]


def better_scores(study: StudyResults) -> StudyFinding:
    """Answer RQ3.

    Does the remedy's model score better than the subject's?
    """
    asked = study.questions
    title = f"Does {asked.remedy} score better than {asked.subject}?"
    claim = f"Models trained on {asked.low} with {asked.remedy} score better than with {asked.subject}."
    rule = (
        "Supported: the difference of the averages over the tasks is above 0. Not supported: it is below 0. The tasks "
        "are adjusted by Holm's method."
    )
    found = scores_on(study, asked.low)
    compared = [scores for scores in found if asked.subject in scores.values and asked.remedy in scores.values]
    if not compared:
        sentence = f"{asked.subject} and {asked.remedy} on {asked.low} were not evaluated on the same documents."
        return StudyFinding(
            "rq3", title, claim, StudyAnswer.OPEN, sentence, rule, remarks=_refusals(found), files=_FILES
        )
    first = compared[0]
    apart = {asked.remedy: 1.0, asked.subject: -1.0}
    pair = f"{asked.remedy} less {asked.subject}"
    average = deciding(f"{pair}: {scores_label(first)}", first.average(apart), POINTS, 1)
    tests = [average, *_column_tests(first, pair, apart)]
    tests += [beside(f"{pair}: {scores_label(scores)}", scores.average(apart), POINTS, 1) for scores in compared[1:]]
    for scores in scores_on(study, asked.high) if asked.high != asked.low else ():
        if asked.subject in scores.values and asked.remedy in scores.values:
            tests += [beside(f"{pair}: {scores_label(scores)}, {asked.high}", scores.average(apart), POINTS, 1)]
    tests += [
        beside(
            f"{arm} less {asked.remedy}: {scores_label(first)}",
            first.average({arm: 1.0, asked.remedy: -1.0}),
            POINTS,
            1,
        )
        for arm in first.values
        if arm not in (asked.subject, asked.remedy, BASE)
    ]
    if BASE in first.values:
        tests += [
            beside(f"{arm} less {BASE}: {scores_label(first)}", first.average({arm: 1.0, BASE: -1.0}), POINTS, 1)
            for arm in (asked.subject, asked.remedy)
        ]
    tests = adjusted(tests)
    if average.is_above or average.is_below:
        answer = StudyAnswer.SUPPORTED if average.is_above else StudyAnswer.NOT_SUPPORTED
    else:
        answer = StudyAnswer.INCONCLUSIVE
    sentence = (
        f"On the {scores_label(first)}, models of {asked.remedy} on {asked.low} score "
        f"{distance_words(average.contrast.estimate, POINTS, 'higher', 'lower', 1)} those of {asked.subject}: "
        f"{fixed(first.average({asked.remedy: 1.0}).estimate)} against "
        f"{fixed(first.average({asked.subject: 1.0}).estimate)} ({average.evidence})."
    )
    return StudyFinding(
        key="rq3",
        title=title,
        claim=claim,
        answer=answer,
        sentence=sentence,
        rule=rule,
        tests=tests,
        remarks=[*_remarks(study, first, tests), *_refusals(found)],
        tables=[
            scores_table(study, pair_set)
            for pair_set in dict.fromkeys((asked.low, asked.high))
            if _any(study, pair_set)
        ],
        trainings=[each.name for arm in (asked.subject, asked.remedy) for each in study.of(arm, asked.low)],
        files=_FILES,
    )


@lru_cache(maxsize=8)
def scores_on(study: StudyResults, pair_set: str) -> list[Scores]:
    """Return the suites that models trained on a set were evaluated on."""
    found = (_suite_scores(study, make(), pair_set) for make in SUITES.values())
    return [scores for scores in found if scores is not None]


def scores_table(study: StudyResults, pair_set: str) -> StudyTable:
    """Return each arm's scores: means over seeds, with the interval of the average."""
    (scores, *_) = scores_on(study, pair_set)
    rows = []
    for arm in scores.values:
        columns = (scores.column(place, {arm: 1.0}) for place in range(len(scores.columns)))
        average = scores.average({arm: 1.0})
        ends = None if average.interval is None else np.clip(average.interval, 0.0, 100.0)  # no score lies beyond
        spread = "" if ends is None else f" [{fixed(float(ends[0]))}, {fixed(float(ends[1]))}]"
        rows.append((arm, f"{fixed(average.estimate)}{spread}", *(fixed(column.estimate) for column in columns)))
    caption = (
        f"Suite {scores.suite.name}, models trained on {pair_set}: percent, means over seeds, with 95% intervals over "
        "documents and seeds (of base: over documents)"
    )
    return StudyTable(caption, ("arm", AVERAGE, *(column.title for column in scores.columns)), rows)


def _any(study: StudyResults, pair_set: str) -> bool:
    return bool(scores_on(study, pair_set))


def scores_label(scores: Scores) -> str:
    """Name what the scores are of: the only column, or the average."""
    names = [column.title for column in scores.columns]
    return names[0] if len(names) == 1 else f"{AVERAGE} of {len(names)} ({scores.suite.name})"


def _column_tests(scores: Scores, pair: str, weights: Mapping[str, float]) -> list[Test]:
    if len(scores.columns) == 1:
        return []
    return [
        beside(f"{pair}: {column.title}", scores.column(place, weights), POINTS, 1)
        for place, column in enumerate(scores.columns)
    ]


def _remarks(study: StudyResults, scores: Scores, tests: Sequence[Test]) -> list[str]:
    asked, remarks = study.questions, []
    if tests[0].contrast.seeds == 1:
        remarks.append("There is one seed: what a loss does cannot be separated from the luck of one training.")
    by_name = {test.name: test for test in tests}
    own = {
        column.title: test
        for column in scores.columns
        if (test := by_name.get(f"{asked.remedy} less {asked.subject}: {column.title}")) is not None
    }
    for word, names in (
        ("better", [title for title, test in own.items() if test.is_above and not test.decides]),
        ("worse", [title for title, test in own.items() if test.is_below and not test.decides]),
    ):
        if names:
            remarks.append(f"{asked.remedy} is {word} on {names_words(names)}.")
    ahead = [
        test for test in tests if test.name.endswith(f"less {asked.remedy}: {scores_label(scores)}") and test.is_above
    ]
    for test in ahead:
        arm = test.name.partition(" less ")[0]
        remarks.append(
            f"{arm} scores higher than {asked.remedy} on the {scores_label(scores)}: {test.shown} "
            f"{test.interval_words}."
        )
    if BASE in scores.values:
        remarks += _base_remarks(study, scores, by_name)
    return remarks


def _base_remarks(study: StudyResults, scores: Scores, by_name: Mapping[str, Test]) -> Iterator[str]:
    """What became of the scores before the training; in the paper the remedy improves on them, the subject fails."""
    asked, base = study.questions, scores.average({BASE: 1.0}).estimate
    for arm in (asked.subject, asked.remedy):
        test = by_name[f"{arm} less {BASE}: {scores_label(scores)}"]
        against = test.is_above if arm == asked.subject else test.is_below
        lead = f"{AGAINST}'s account, " if against else ""
        words = {"above 0": "improves on", "below 0": "falls behind"}
        alone = f", {test.proviso}," if test.proviso else ""
        verb = words.get(test.outcome_words, f"is{alone} not shown to differ from")
        yield (
            f"{lead}{arm} {verb} the model before the training: {fixed(base + test.contrast.estimate)} against "
            f"{fixed(base)} on the {scores_label(scores)}, {test.interval_words}."
        )


def _refusals(found: Sequence[Scores]) -> list[str]:
    told = [f"{title} is not compared: {reason}." for scores in found for title, reason in scores.refused.items()]
    return told + [
        f"{names_words(scores.left_out)}: not compared on {scores.suite.name}, since not all models of "
        f"{'it' if len(scores.left_out) == 1 else 'theirs'} were evaluated on what the others were."
        for scores in found
        if scores.left_out
    ]


def _suite_scores(study: StudyResults, suite: Suite, pair_set: str) -> Scores | None:
    asked = study.questions
    models = {
        arm: [each.name for each in study.of(arm, pair_set) if study.results.get(each.name)]
        for arm in dict.fromkeys([asked.subject, asked.remedy, *study.arms])
    }
    models = {arm: names for arm, names in models.items() if names}
    if study.results.get(BASE):
        models[BASE] = [BASE]
    needed = [name for arm in (asked.subject, asked.remedy) for name in models.get(arm, ())]
    columns = [
        column
        for column in suite.columns
        if needed and all(leaf.name in study.results[name] for name in needed for leaf in column.leaves)
    ]
    if not columns:
        return None
    compared: list[Column] = []
    refused: dict[str, str] = {}
    values: dict[str, dict[str, Values]] = {arm: {} for arm in models}
    for column in columns:
        try:
            tables = [_task_tables(study, models, needed, leaf.name, column.metric) for leaf in column.leaves]
        except _NotCompared as error:
            refused[column.title] = str(error)
            continue
        compared.append(column)
        for leaf, table in zip(column.leaves, tables, strict=True):
            for arm, own in table.items():
                values[arm][leaf.name] = own
    if not compared:
        return Scores(suite, (), (), {}, refused)
    leaves = [leaf.name for column in compared for leaf in column.leaves]
    complete = {arm: own for arm, own in values.items() if all(leaf in own for leaf in leaves)}
    left_out = [arm for arm in models if arm not in complete]
    return Scores(suite, compared, [_weights(column, complete) for column in compared], complete, refused, left_out)


class _NotCompared(Exception):
    """Two models that the question needs were not evaluated alike."""


def _task_tables(
    study: StudyResults, models: Mapping[str, Sequence[str]], needed: Sequence[str], task: str, metric: str
) -> dict[str, Values]:
    """Each arm's values of a task, in percent, on the documents that all models share; an arm that was not evaluated
    like the others is left out."""
    reference = study.results[needed[0]][task]
    found: dict[str, list[dict[int, float]]] = {}
    for arm, names in models.items():
        try:
            found[arm] = [_values(name, study.results[name].get(task), needed[0], reference, metric) for name in names]
        except _NotCompared:
            if set(names) & set(needed):
                raise
    shared = sorted(set.intersection(*(set(each) for values in found.values() for each in values)))
    if not shared:
        raise _NotCompared("no document in common")
    return {
        arm: 100 * np.array([[each[document] for each in values] for document in shared], np.float64)
        for arm, values in found.items()
    }


def _values(model: str, result: TaskResult | None, other: str, reference: TaskResult, metric: str) -> dict[int, float]:
    """A model's values by the number of the document in the reference's samples."""
    if result is None or result.samples is None:
        raise _NotCompared(f"there are no samples of {model}")
    values = logged_values(result.samples, metric)
    gate = comparability(model, result, other, reference, metric)
    if values is None or is_refused(gate) or gate.rows is None:
        raise _NotCompared("; ".join(gate.reasons) or f"the samples of {model} lack {metric}")
    if not np.isfinite(values).all():
        raise _NotCompared(f"some documents of {model} have no number")
    mine, theirs = gate.rows
    return dict(zip(map(int, theirs), map(float, values[mine]), strict=True))


def _weights(column: Column, values: Mapping[str, Mapping[str, Values]]) -> list[tuple[str, float]]:
    """The weight of each leaf's mean: equal, or by documents where the column is defined so."""
    sizes = [len(next(iter(values.values()))[leaf.name]) for leaf in column.leaves]
    equal = nested_weights([len(sizes)])
    weights = [size / sum(sizes) for size in sizes] if column.weighted_by_size else equal
    return [(leaf.name, weight) for leaf, weight in zip(column.leaves, weights, strict=True)]
