"""List what generated answers lack, for the panel of samples and the warnings: a line for each task and model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from smaug_eval.common.text import fixed
from smaug_eval.reports.families import sampled_families
from smaug_eval.reports.html.browser import SAMPLES, of_model, state
from smaug_eval.results.answers import FLAWS, AnswerFlaws, Flaw, answer_flaws
from smaug_eval.results.comparison import Comparison

LEAST = 0.005
"""Share of answers with a flaw from which on it is a warning."""


class AnswerRow(NamedTuple):
    """Say what one model's answers to a task lack; ``finds`` leads to those of them that are on the page."""

    task: str
    model: str
    found: AnswerFlaws
    finds: Mapping[Flaw, str]


def answer_rows(comparison: Comparison) -> Iterator[AnswerRow]:
    """Yield a line for each task that generates answers and each model with samples of it, whatever the baseline is."""
    comparison = comparison.first
    models = list(comparison.models)
    for number, tasks in enumerate(sampled_families(comparison).values()):
        for task in tasks:
            metric = comparison.headline_metric(task)
            for index, model in enumerate(models):
                result = comparison.models[model].get(task)
                found = None if result is None else answer_flaws(result, metric)
                if found is not None:
                    finds = {
                        flaw: state(SAMPLES, task=number, flaw=of_model(flaw, index, len(models))) for flaw in FLAWS
                    }
                    yield AnswerRow(task, model, found, finds)


class AnswerWarning(NamedTuple):
    """Hold a sentence, and where the page shows what it is about."""

    text: str
    find: str


def answer_warnings(comparison: Comparison) -> Iterator[AnswerWarning]:
    """Yield a sentence for each flaw of a model's answers to a task that is no rarity."""
    for row in answer_rows(comparison):
        for flaw, words in _SENTENCES.items():
            count = row.found.count(flaw)
            if count and count >= LEAST * row.found.answers:
                share = f"{count:,} of {row.found.answers:,} answers ({fixed(100 * count / row.found.answers)}%)"
                limit = "" if row.found.limit is None else f" of {row.found.limit:,} tokens"
                text = f"{row.model}, {row.task}: {share} {words.format(limit=limit)}."
                yield AnswerWarning(text, row.finds[flaw])


def answer_numbers(comparison: Comparison) -> list[Mapping[str, Any]]:
    """Return the lines as plain data."""
    return [
        {
            "task": row.task,
            "model": row.model,
            "answers": row.found.answers,
            "limit": row.found.limit,
            "counts": {flaw: row.found.count(flaw) for flaw in FLAWS},
        }
        for row in answer_rows(comparison)
    ]


_SENTENCES: Mapping[Flaw, str] = {
    "empty": "are empty",
    "unclosed": "begin a thought (such as <think>) and do not end it, so that what counts may never have been said",
    "cut": "are as long as the limit{limit} allows and end in mid-sentence: probably cut",
    "unextracted": "hold nothing that the task's filter could extract, and count as wrong",
}
