"""Write a study without pictures: its findings in Markdown and as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from smaug_eval.reports.study.answers import StudyFinding, StudyTable, contradictions
from smaug_eval.reports.study.pairs import arm_matrices, arm_tables
from smaug_eval.reports.study.positions import after_edit_table
from smaug_eval.reports.study.questions import findings
from smaug_eval.reports.study.tables import arms_table, trained_words, trainings_table
from smaug_eval.results.study import StudyResults

Escape = Callable[[str], str]


def study_numbers(study: StudyResults) -> Mapping[str, Any]:
    """Return the study for JSON.

    Returns:
        ``questions`` (who plays which part), ``missing`` trainings, ``findings``
        (:meth:`smaug_eval.reports.study.answers.StudyFinding.numbers`), ``contradictions`` (sentences), ``pairs``
        (every two arms), ``after_edit``, ``arms`` and ``trainings`` (tables of text).
    """
    after = after_edit_table(study)
    return {
        "questions": study.questions.model_dump(),
        "missing": study.missing,
        "findings": [finding.numbers() for finding in findings(study)],
        "contradictions": contradictions(findings(study)),
        "pairs": [each.numbers() for each in arm_matrices(study)],
        "after_edit": None if after is None else after._asdict(),
        "arms": arms_table(study)._asdict(),
        "trainings": trainings_table(study)._asdict(),
    }


def study_lines(study: StudyResults, escaped: Escape) -> Iterator[str]:
    """Yield the findings in GitHub's Markdown.

    Args:
        study: The study.
        escaped: Makes text safe to stand in Markdown.
    """
    yield from (escaped(trained_words(study)), "")
    for finding in findings(study):
        yield f"- **{escaped(finding.title)}** {finding.answer.value}. {escaped(finding.sentence)}"
    yield ""
    if against := contradictions(findings(study)):
        yield from ("**What contradicts the paper**", "", *(f"- {escaped(each)}" for each in against), "")
    for finding in findings(study):
        yield from _finding_lines(finding, escaped)
    after = after_edit_table(study)
    if after is not None:
        yield from ("### Where in the answers (Fig. 4)", "", *table_lines(after, escaped))
    if tables := list(arm_tables(study)):
        yield from ("### Any two arms", "", *(line for each in tables for line in table_lines(each, escaped)))
    yield from ("### Arms", "", *table_lines(arms_table(study), escaped))


def _finding_lines(finding: StudyFinding, escaped: Escape) -> Iterator[str]:
    yield from (f"### {finding.key.upper()}: {escaped(finding.title)}", "")
    yield from (f"**{finding.answer.value}.** {escaped(finding.sentence)}", "")
    yield from (f"Claim: {escaped(finding.claim)} {escaped(finding.rule)}", "")
    if finding.remarks:
        yield from (*(f"- {escaped(remark)}" for remark in finding.remarks), "")
    if finding.tests:
        caption = "Tests over items and seeds; those in bold decide, the others' p values are adjusted by Holm's method"
        yield from (caption, "", "| what | estimate | 95% interval | p | items | seeds | comes to |")
        yield "|---|---:|---:|---:|---:|---:|---|"
        for test in finding.tests:
            name = f"**{escaped(test.name)}**" if test.decides else escaped(test.name)
            cells = (
                test.shown,
                test.interval_words,
                test.p_words,
                f"{test.contrast.items:,}",
                str(test.contrast.seeds),
            )
            yield f"| {name} | {' | '.join(map(escaped, cells))} | {test.outcome_shown} |"
        yield ""
    for table in finding.tables:
        yield from table_lines(table, escaped)


def table_lines(table: StudyTable, escaped: Escape) -> Iterator[str]:
    """Yield a table in GitHub's Markdown, its caption before it; ``escaped`` makes text safe to stand there."""
    yield from (f"{escaped(table.caption)}.", "")
    yield f"| {' | '.join(map(escaped, table.headings))} |"
    yield "|---|" + "---:|" * (len(table.headings) - 1)
    for row in table.rows:
        yield f"| {' | '.join(map(escaped, row))} |"
    yield ""
