"""Write every pair of models for formats without a choice of the baseline: matrices in Markdown, numbers for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

from smaug_eval.reports.markdown import escaped
from smaug_eval.reports.pair_matrices import (
    MatrixEntry,
    PairMatrix,
    best_statements,
    judged_pairs,
    pair_matrices,
    told_pairs,
    too_many,
)
from smaug_eval.reports.panels.samples import outcome_rows
from smaug_eval.reports.statements import scored_models
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.differences import Difference
from smaug_eval.results.pairs import pair_tables


def difference_numbers(difference: Difference | None) -> Mapping[str, Any] | None:
    """Return a difference as plain data."""
    if difference is None:
        return None
    return {
        **{key: value for key, value in asdict(difference).items() if key != "is_anytime" or value},
        "verdict": difference.verdict.words(difference.unit.of_difference),
        "held_back": difference.held_back,
        "unit": difference.unit.name,
    }


def pair_numbers(comparison: Comparison) -> list[Mapping[str, Any]] | None:
    """Return every pair of models: an entry for each suite and set of judged questions.

    None where there are more models than are compared in pairs.
    """
    if too_many(comparison):
        return None
    found: list[Mapping[str, Any]] = [
        {
            "suite": table.suite,
            "of": table.label,
            "models": list(table.models),
            "tests": table.tests,
            "pairs": [
                {
                    "model": pair.model,
                    "other": pair.other,
                    "difference": difference_numbers(pair.difference),
                    "why_not": pair.why_not,
                    "columns": {
                        title: {"difference": difference_numbers(cell.difference), "why_not": cell.why_not}
                        for title, cell in pair.tasks.items()
                    },
                }
                for pair in table.pairs
            ],
        }
        for table in pair_tables(comparison)
    ]
    for each in comparison.dialogues if comparison.choices else ():
        own = judged_pairs(each)
        found.append(
            {
                "judged": each.key.title,
                "judge": each.key.judge,
                "models": each.models,
                "tests": sum(apart.p_value is not None for apart in own.values()),
                "pairs": [
                    {"model": model, "other": other, **asdict(apart), "verdict": apart.outcome.value}
                    for (model, other), apart in own.items()
                ],
                "not_compared": [
                    {"model": model, "other": other, "why_not": why}
                    for other, model in combinations(scored_models(each), 2)
                    if (why := each.why_not(model, other))
                ],
            }
        )
    return found


def flip_numbers(comparison: Comparison) -> list[Mapping[str, Any]]:
    """Return what became of the documents for every pair of models, each pair once, as in :func:`pair_numbers`."""
    found: list[Mapping[str, Any]] = []
    for place, other in enumerate(comparison.choices):
        later = set(comparison.choices[place + 1 :])
        found += [
            {"task": row.family, "model": row.model, "other": other, "counts": row.counts}
            for row in outcome_rows(comparison.against(other))
            if row.model in later
        ]
    return found


def best_lines(comparison: Comparison) -> Iterator[str]:
    """Yield in Markdown which model is best, and how models beside the baseline compare with each other."""
    matrices = pair_matrices(comparison)
    for each in best_statements(matrices):
        verdict = f" ({each.verdict})" if each.verdict else ""
        yield f"- **{escaped(each.model)}** {escaped(each.text)}{verdict}. {escaped(each.detail)}".rstrip()


def between_lines(comparison: Comparison) -> Iterator[str]:
    """Yield in Markdown a sentence for each pair of models beside the baseline, where they are few."""
    matrices = pair_matrices(comparison)
    for judged in (False, True):
        for each in told_pairs(matrices, comparison.baseline, judged=judged):
            yield f"- **{escaped(each.model)}** ({each.verdict}) {escaped(each.text)}."


def pair_lines(comparison: Comparison) -> Iterator[str]:
    """Yield the matrices in Markdown, row against column, and what became of the documents."""
    if note := too_many(comparison):
        yield from (f"{escaped(note)}.", "")
    matrices = [each for each in pair_matrices(comparison) if len(each.models) > 2]
    for each in matrices:
        yield from _matrix_lines(each)
    if matrices:
        yield from _flip_lines(comparison)


def _matrix_lines(each: PairMatrix) -> Iterator[str]:
    yield from (f"**Any two models, {escaped(each.title)}**: row less column, p adjusted over {each.family}", "")
    yield f"| model | score | {' | '.join(f'against {escaped(model)}' for model in each.models)} |"
    yield "|---|---:|" + "---:|" * len(each.models)
    for row in each.models:
        cells = ["" if row == column else _cell(each.entries[row, column]) for column in each.models]
        yield f"| {escaped(row)} | {each.scores[row]} | {' | '.join(cells)} |"
    yield ""


def _cell(entry: MatrixEntry) -> str:
    if entry.why_not:
        return "not compared"
    apart = " ".join(filter(None, (entry.mark, entry.apart)))
    shown = f"**{apart}**" if entry.mark else apart
    interval = f" [{entry.interval}]" if entry.interval else ""
    told = ", ".join(filter(None, (entry.p_value, entry.outcome)))
    return f"{shown}{interval} {told}".strip()


def _flip_lines(comparison: Comparison) -> Iterator[str]:
    """Yield how many documents each model gained and lost against each other one, over all tasks."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in flip_numbers(comparison):
        own = counts.setdefault((row["model"], row["other"]), {})
        for outcome, number in row["counts"].items():
            own[outcome] = own.get(outcome, 0) + number
    if not counts:
        return
    yield from ("**Answers that changed between any two models**, over all documents with samples", "")
    yield from ("| model | against | gained | lost | both right | both wrong |", "|---|---|---:|---:|---:|---:|")
    for (model, other), own in counts.items():
        cells = " | ".join(f"{own.get(outcome, 0):,}" for outcome in ("gained", "lost", "both right", "both wrong"))
        yield f"| {escaped(model)} | {escaped(other)} | {cells} |"
    yield ""
