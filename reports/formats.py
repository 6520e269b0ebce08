"""Write the report without pictures: a summary in Markdown for a pull request, and its numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from smaug_eval._version import __version__
from smaug_eval.common.text import NOT_AVAILABLE, bound, fixed, signed
from smaug_eval.leaderboard.archive import AVERAGE, Rank, Standing
from smaug_eval.leaderboard.scores import Score
from smaug_eval.mt_bench.scores.conditions import bias_words
from smaug_eval.mt_bench.scores.pairs import model_strengths, pair_scores, position_bias
from smaug_eval.mt_bench.scores.single import single_scores
from smaug_eval.reports.markdown import escaped, matrix_lines
from smaug_eval.reports.pair_formats import (
    best_lines,
    between_lines,
    difference_numbers,
    flip_numbers,
    pair_lines,
    pair_numbers,
)
from smaug_eval.reports.pair_matrices import best_statements, pair_matrices
from smaug_eval.reports.panels.answers import answer_numbers
from smaug_eval.reports.panels.checkpoints import choice_sentences, curve_lines, curve_numbers
from smaug_eval.reports.panels.dialogues import between_judges
from smaug_eval.reports.panels.headline import all_statements, preferred_likelihood
from smaug_eval.reports.panels.running import costs
from smaug_eval.reports.panels.samples import sample_counts
from smaug_eval.reports.panels.scores import TABLE_WORDS, published_rows, published_scores, standings, titles
from smaug_eval.reports.panels.subjects import SubjectRow, SubjectTable, subjects
from smaug_eval.reports.panels.training import FINAL_COLUMNS, last_values, story
from smaug_eval.reports.panels.training_details import edits
from smaug_eval.reports.panels.warnings import warning_groups, warning_lines
from smaug_eval.reports.statements import judged_differences, judged_evidence, judged_otherwise
from smaug_eval.reports.study.formats import study_lines, study_numbers
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.tables import ScoreCell, ScoreTable
from smaug_eval.results.trainings import Training
from smaug_eval.stats import Interval, Outcome

SCHEMA = 1


def summary(comparison: Comparison) -> str:
    """Return the verdicts, each suite's table, what happened in training, and the warnings, in GitHub's Markdown."""
    return "\n".join(_summary_lines(comparison)).rstrip() + "\n"


def numbers(comparison: Comparison) -> str:
    """Return the report's numbers as JSON; what is not a finite number is null.

    Keys of version 1, to which later ones only add:

    - ``schema``, ``version`` (of smaug-eval), ``title``, ``baseline``, ``warnings`` (sentences),
      ``warnings_by_danger`` (what they endanger to the same sentences);
    - ``statements``: ``model``, ``verdict`` ("better", "worse", "inconclusive", "not compared" or ""), ``text``,
      ``detail``;
    - ``best``: which model has the best average, as a statement, where there are three models or more;
    - ``pairs``: every pair of models, whatever the baseline is, in the order of the sources: by ``suite``, ``of`` (the
      average's name, or the only task's), ``models``, ``tests`` (p values in the family of Holm's method) and
      ``pairs``: ``model``, ``other``, ``difference`` (the model's less the other's, as below), ``why_not`` and
      ``columns`` (title to ``difference`` and ``why_not``); of judged answers ``judged``, ``judge`` and the same; null
      where there are more than 12 models;
    - ``flips``: ``task``, ``model``, ``other`` and ``counts``, as ``outcomes``, for every pair;
    - ``models``: name to what the run's manifest says of it;
    - ``suites``: ``suite``, ``average_label``, ``columns`` (``title``, ``metric``) and ``models``: name to
      ``average``, ``columns`` (by title, null where not measured) and ``tasks`` (scores by task). A score has
      ``value``, ``stderr``, ``interval`` (percent), ``n`` and ``notes``; averages and columns also ``difference`` and
      ``why_not``. A difference is in points: ``points``, ``interval``, ``p_value``, ``adjusted_p``, ``detectable``,
      ``n``, ``gained``, ``lost``, ``correlation``, ``test``, ``verdict``, ``remarks``, ``in_common`` (both scores on
      the documents in common, null where these are all) and ``held_back`` (such as "above 0 unadjusted", where interval
      or p value alone say something else than an inconclusive verdict); ``is_anytime`` is there and true where an
      evaluation stopped early: the interval then holds wherever it stopped, and there is no p value;
    - ``other_tasks``: the same of all tasks that are part of no suite, without an average; ``unit`` is ``%`` for scores
      in percent, empty for lm-eval's own, ``higher_is_better`` null where it is not known, ``label`` the prompt's form;
    - ``names``: model to its whole name; ``costs``: model to seconds, documents and tokens per second, hardware;
      ``answers``: shares of generated answers that are empty, cut, of unclosed thought or without an extracted answer;
    - ``published`` and ``standings``: rows of the archived leaderboard, and ranks in it where it was given;
    - ``judged``: ``title``, ``judge``, ``demo``, ``single`` and ``pairs``, by model, ``missing``, ``position_bias`` and
      ``strengths`` (Bradley and Terry's, by model); ``agreement`` of judges of one question set;
    - ``trainings``: ``name``, ``loss``, ``beta``, ``lambda``, ``steps``, ``last`` (the last logged values by split),
      ``edits`` (changes before, at and after the edit, nats per token and per pair), ``checkpoints`` (``evaluation``,
      ``development``, ``task``, ``metric``, ``unit``, ``higher_is_better`` and ``points``: ``step``, ``value``,
      ``stderr``, ``interval``, ``n`` and the ``difference`` from the first) and ``chosen`` (``step``, ``metric`` and
      ``scores`` of the checkpoint that was chosen by them; null for none);
    - ``subjects``: ``suite``, ``column`` and ``categories``: ``title``, ``mean`` and ``subjects``, each model to a
      score as above;
    - ``outcomes``: ``task``, ``model`` and ``counts`` of documents gained, lost, and so on; ``solutions``: the same of
      how solutions end; ``runs``: label to manifest;
    - ``tasks``: model to task to ``n`` and ``metrics`` (label to ``value`` and ``stderr``, in lm-eval's units);
    - ``study``: of a study alone, :func:`smaug_eval.reports.study.formats.study_numbers`; all other keys then hold one
      training of each arm.
    """
    outcomes, failures = sample_counts(comparison)
    found = {
        "schema": SCHEMA,
        "version": __version__,
        "title": comparison.title,
        "baseline": comparison.baseline,
        "statements": [each._asdict() for each in all_statements(comparison)],
        "best": [each._asdict() for each in best_statements(pair_matrices(comparison))],
        "pairs": pair_numbers(comparison),
        "flips": flip_numbers(comparison),
        "warnings": warning_lines(comparison),
        "warnings_by_danger": {
            group.danger: [each.text for each in group.items] for group in warning_groups(comparison)
        },
        "models": {model: comparison.described.get(model, {}) for model in comparison.models},
        "suites": [_suite(table) for table in comparison.tables],
        "other_tasks": None if comparison.others is None else _suite(comparison.others),
        "names": {model: comparison.full_name(model) for model in comparison.models},
        "costs": costs(comparison),
        "answers": answer_numbers(comparison),
        "published": {model: asdict(row) for model, row in published_rows(comparison)},
        "standings": [each.as_dict() for each in standings(comparison)],
        "judged": [
            {
                "title": each.key.title,
                "judge": each.key.judge,
                "demo": each.is_demo,
                "missing": {
                    "judgments": len(each.judgments.missing),
                    "by_model": each.missing,
                    "why": each.missing_reasons,
                },
                "position_bias": asdict(position_bias(each.judgments.pairs)) if each.judgments.pairs else None,
                "strengths": {model: asdict(own) for model, own in model_strengths(each.judgments.pairs).items()},
                "single": {model: asdict(own) for model, own in single_scores(each.judgments.single).items()},
                "pairs": {model: asdict(own) for model, own in pair_scores(each.judgments.pairs).items()},
            }
            for each in comparison.dialogues
        ],
        "agreement": [
            {
                "title": each["title"],
                "judges": [asdict(own) for own in each["agreements"]],
                "panel": {model: asdict(own) for model, own in each["panel"].items()},
            }
            for each in between_judges(comparison.dialogues)
        ],
        "trainings": [_training(each) for each in comparison.trainings],
        "subjects": [_subjects(each) for each in (subjects(comparison) or {"tables": []})["tables"]],
        "outcomes": [{"task": row.family, "model": row.model, "counts": row.counts} for row in outcomes],
        "solutions": [{"task": row.task, "model": row.model, "counts": row.counts} for row in failures],
        "runs": {source.label: source.manifest for source in comparison.sources if source.manifest},
        "tasks": {
            model: {
                task: {
                    "n": result.n,
                    "metrics": {each.label: {"value": each.value, "stderr": each.stderr} for each in result.metrics},
                }
                for task, result in results.items()
            }
            for model, results in comparison.models.items()
        },
    }
    if comparison.study is not None:
        found["study"] = study_numbers(comparison.study)
    return json.dumps(_finite(found), indent=2, allow_nan=False) + "\n"


def _summary_lines(comparison: Comparison) -> Iterator[str]:
    yield from (f"## {escaped(comparison.title)}", "")
    if comparison.study is not None:
        yield from study_lines(comparison.study, escaped)
        return
    yield from best_lines(comparison)
    for each in all_statements(comparison):
        verdict = f" ({each.verdict})" if each.verdict else ""
        yield f"- **{escaped(each.model)}**{verdict} {escaped(each.text)}. {escaped(each.detail)}".rstrip()
    yield from between_lines(comparison)
    for fall in filter(None, map(preferred_likelihood, comparison.trainings)):
        if fall.below_reference:
            yield f"- **training {escaped(fall.training)} made preferred answers less likely** ({fall.amount})"
    yield ""
    for table in comparison.tables:
        yield from _suite_lines(table, comparison.baseline)
    yield from pair_lines(comparison)
    yield from _archive_lines(comparison)
    yield from matrix_lines(comparison)
    for judged in comparison.dialogues:
        yield from _judged_lines(judged, comparison.baseline)
    for found in between_judges(comparison.dialogues):
        yield from _agreement_lines(found)
    if comparison.trainings:
        told = [*story(comparison.trainings), *choice_sentences(comparison.trainings)]
        yield from ("**Training**", "", *(f"- {escaped(sentence)}" for sentence in told), "")
    for training in comparison.trainings:
        yield from curve_lines(training, escaped)
    groups = warning_groups(comparison)
    for place, group in enumerate(groups):
        yield from (() if place else ("**Read this first**", ""))
        yield from ((f"{group.danger}:", "") if len(groups) > 1 else ())
        yield from (*(f"- {escaped(each.text)}" for each in group.items), "")


def _suite_lines(table: ScoreTable, baseline: str | None) -> Iterator[str]:
    titles = [*([table.average_label or "average"] if table.is_averaged else []), *table.columns]
    differences = f", difference from {escaped(str(baseline))} in points" if len(table.cells) > 1 else ""
    yield from (f"**{escaped(TABLE_WORDS.get(table.suite, table.suite))}**: score in percent{differences}", "")
    yield f"| model | {' | '.join(map(escaped, titles))} |"
    yield "|---|" + "---:|" * len(titles)
    for model, cells in table.cells.items():
        own = (*([table.averages[model]] if table.is_averaged else []), *cells)
        shown = " | ".join(map(_cell_text, own))
        yield f"| {escaped(model)} | {shown} |"
    apart = [cell.difference for cells in table.cells.values() for cell in cells if cell is not None]
    if any(difference is not None for difference in apart):
        early = any(difference is not None and difference.is_anytime for difference in apart)
        more = " Columns that stopped early have anytime-valid intervals, which decide, and no p." if early else ""
        yield from ("", f"95% intervals in brackets; bold: better or worse with p adjusted by Holm's method.{more}")
    if table.labels:
        asked = "; ".join(f"{escaped(title)}: {escaped(label)}" for title, label in table.labels.items())
        yield from ("", f"Asked with {asked}.")
    yield ""


def _archive_lines(comparison: Comparison) -> Iterator[str]:
    """What the archived leaderboard says of the models, and where they would have ranked."""
    columns = titles(comparison)
    if published := published_scores(comparison):
        yield from ("**Published on the archived leaderboard**: score in percent, the score here less it in points", "")
        yield f"| model | {AVERAGE.lower()} | {' | '.join(columns)} |"
        yield "|---|" + "---:|" * (1 + len(columns))
        for each in published:
            values = {AVERAGE: each.row.average, **each.row.scores}
            shown = " | ".join(_published_text(values[title], each.gap(title)) for title in (AVERAGE, *columns))
            yield f"| {escaped(each.model)} ({escaped(each.row.precision)}) | {shown} |"
        yield ""
    ranks = [(each, rank) for each in standings(comparison) for rank in _ranks(each)]
    for standing, rank in ranks:
        span = "" if rank.best is None or rank.worst is None else f" (95%: {rank.best:,} to {rank.worst:,})"
        among = "all models" if rank.size_class is None else f"models of class {rank.size_class}"
        why = f"; not comparable: {'; '.join(rank.not_comparable)}" if rank.not_comparable else ""
        by = "the average" if rank.column == AVERAGE else rank.column
        place = f"rank {rank.rank:,} of {rank.models + 1:,}{span} among {among}, by {by}{why}"
        yield f"- {escaped(standing.model)}: {escaped(place)}"
    if ranks:
        yield ""


def _ranks(standing: Standing) -> list[Rank]:
    """The average's; those of the columns where there is no average to rank."""
    averages = [rank for rank in standing.ranks if rank.column == AVERAGE]
    return averages or [rank for rank in standing.ranks if rank.size_class is None]


def _published_text(value: float, gap: float | None) -> str:
    return fixed(value) if gap is None else f"{fixed(value)} ({signed(gap)})"


def _judged_lines(judged: JudgedSet, baseline: str | None) -> Iterator[str]:
    scores, differences = single_scores(judged.judgments.single), judged_differences(judged, baseline)
    others = judged_otherwise(judged, baseline)
    judge = "a rule of the demo, no model" if judged.is_demo else judged.key.judge or "a judge that is not recorded"
    yield from _judged_pair_lines(judged, judge)
    if not scores:
        return
    yield from (f"**{escaped(judged.key.title)}**: scores from 1 to 10 by {escaped(judge)}", "")
    yield from ("| model | turn 1 | turn 2 | average | difference | failed |", "|---|---:|---:|---:|---:|---:|")
    for model, own in scores.items():
        means = [_mean_text(getattr(own, name), own.intervals[name]) for name in ("turn1", "turn2", "average")]
        apart = differences.get(model)
        difference = "not compared" if model in others else ""
        difference = difference if apart is None else f"{signed(apart.difference, 2)} ({judged_evidence(apart)})"
        lacking = f" ({judged.missing[model]} missing)" if model in judged.missing else ""
        yield f"| {escaped(model)} | {' | '.join(means)}{lacking} | {difference} | {own.failed} |"
    yield ""


def _agreement_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"**{escaped(found['title'])}**: agreement between judges", "")
    yield from ("| judges | of | verdicts | equal | kappa |", "|---|---|---:|---:|---:|")
    for each in found["agreements"]:
        kappa = "" if each.kappa is None else fixed(each.kappa, 2)
        names = escaped(" and ".join(each.judges))
        yield f"| {names} | {each.kind} | {each.n} | {fixed(100 * each.share)}% | {kappa} |"
    for model, own in found["panel"].items():
        panel = _mean_text(own.average, own.interval)
        yield f"| all judges together of {escaped(model)} | mean score | {own.n} | {panel} | |"
    yield ""


def _judged_pair_lines(judged: JudgedSet, judge: str) -> Iterator[str]:
    if not (scores := pair_scores(judged.judgments.pairs)):
        if judged.judgments.pairs:
            title, number = escaped(judged.key.title), len(judged.judgments.pairs)
            yield from (f"**{title}**: none of {number} pairs has a verdict by {escaped(judge)}", "")
        return
    yield from (f"**{escaped(judged.key.title)}**: pairs, each judged in both orders by {escaped(judge)}", "")
    yield from (
        "| model | win | loss | tie | win rate, ties as half | without a verdict |",
        "|---|---:|---:|---:|---:|---:|",
    )
    for model, own in scores.items():
        ends = "" if own.interval is None else f" [{', '.join(fixed(100 * end) for end in own.interval)}]"
        rate = f"{fixed(100 * own.win_rate_adjusted)}%{ends}"
        lacking = f" ({judged.missing[model]} missing)" if model in judged.missing else ""
        yield f"| {escaped(model)} | {own.win} | {own.loss} | {own.tie} | {rate}{lacking} | {own.failed} |"
    bias = position_bias(judged.judgments.pairs)
    if bias.pairs:
        yield from ("", f"Position bias: {escaped(judge)} {bias_words(bias)}.")
    yield ""


def _mean_text(value: float | None, interval: Interval | None) -> str:
    return (
        fixed(value, 2) if interval is None else f"{fixed(value, 2)} [{fixed(interval[0], 2)}, {fixed(interval[1], 2)}]"
    )


def _cell_text(cell: ScoreCell | None) -> str:
    if cell is None:
        return NOT_AVAILABLE
    return f"{fixed(cell.score.value)} {_difference_text(cell)}".rstrip()


def _difference_text(cell: ScoreCell) -> str:
    apart = cell.difference
    if apart is None:
        own = "" if cell.score.interval is None else f"[{', '.join(map(fixed, cell.score.interval))}]"
        return own if cell.why_not is None else f"{own} (not compared)".strip()
    interval = "" if apart.interval is None else f" [{bound(apart.interval[0])}, {bound(apart.interval[1])}]"
    is_clear = apart.verdict.outcome in {Outcome.BETTER, Outcome.WORSE}
    shown = f"**{signed(apart.points)}**{interval}" if is_clear else f"{signed(apart.points)}{interval}"
    common = (
        "" if apart.in_common is None else f"{fixed(apart.in_common[0])} against {fixed(apart.in_common[1])} in common"
    )
    told = "; ".join(filter(None, (apart.held_back, common)))
    return f"{shown} ({told})" if told else shown


def _suite(table: ScoreTable) -> Mapping[str, Any]:
    return {
        "suite": table.suite,
        "average_label": table.average_label,
        "columns": table.columns_as_dicts(),
        "models": {
            model: {
                "average": _cell(table.averages.get(model)),
                "columns": {title: _cell(cell) for title, cell in zip(table.columns, cells, strict=True)},
                "tasks": {
                    task: asdict(score)
                    for column in table.scores[model].columns
                    for task, score in column.leaves.items()
                },
            }
            for model, cells in table.cells.items()
        },
    }


def _subjects(table: SubjectTable) -> Mapping[str, Any]:
    def by_model(row: SubjectRow) -> Mapping[str, Any]:
        return {model: _cell(cell) for model, cell in zip(table.models, row.cells, strict=True)}

    categories = [
        {
            "title": each.mean.title,
            "mean": by_model(each.mean),
            "subjects": {s.title: by_model(s) for s in each.subjects},
        }
        for each in table.categories
    ]
    return {"suite": table.suite, "column": table.column, "categories": categories}


def _cell(cell: ScoreCell | None) -> Mapping[str, Any] | None:
    if cell is None:
        return None
    score: Score = cell.score
    return {**asdict(score), "difference": difference_numbers(cell.difference), "why_not": cell.why_not}


def _training(training: Training) -> Mapping[str, Any]:
    return {
        "name": training.name,
        **{key: training.summary.get(key) for key in ("loss", "beta", "lambda", "steps")},
        "last": last_values(training, list(FINAL_COLUMNS)),
        "edits": [each._asdict() for each in edits(training)],
        "checkpoints": curve_numbers(training),
        "chosen": dict(training.chosen) or None,
    }


def _finite(value: Any) -> Any:
    """``value`` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
