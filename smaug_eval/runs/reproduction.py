"""Run a leaderboard's suite on a model, and hold the result against a published row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_json
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.published import V2, PublishedRow
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.suite_data import short_name
from smaug_eval.leaderboard.v2_rules import of_february_2025
from smaug_eval.leaderboard.verdicts import ROUNDING, judge, judge_math_verify, published_dtype
from smaug_eval.results.sources import read_source
from smaug_eval.results.task_results import TaskResult
from smaug_eval.results.views import OWN_TASKS, score_views
from smaug_eval.runs.directory import RunDirectory, now
from smaug_eval.runs.recipe import BASE

VERDICTS = "reproduction.json"


SAME_PROMPTS = ("hf", "torch")  # engines that cut prompts as the archived leaderboard did


def reproduction_recipe(
    model: str,
    row: PublishedRow,
    *,
    name: str,
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    dtype: str | None = None,
    data_root: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the recipe that measures a model as a published row was measured.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        row: The published row; a model of the same Hub id is taken at its commit.
        name: Name of the run.
        tasks: Columns to run; all if None.
        limit: First documents of each task; all if None.
        dtype: Precision; the row's if None.
        data_root: Offline mirror for data sets.
        settings: Further keys of the evaluation, as in a recipe.

    Raises:
        SmaugError: the row was measured on quantised weights and no ``dtype`` is given, or the suite is to be another.
    """
    if "suite" in (settings or {}):
        raise SmaugError(f"the row was measured on {row.suite}", fix="leave suite out")
    if {"stop", "within"} & (settings or {}).keys():
        raise SmaugError(
            "a score that stops early stands for no published row",
            fix="leave stop out; an evaluation that has stopped is completed without scoring anything twice",
        )
    suite = row.suite
    template = {"apply_chat_template": True, "fewshot_as_multiturn": row.is_multiturn} if row.chat_template else {}
    precision = dtype or published_dtype(row)
    revision = {"revision": row.revision} if row.revision and is_row_of(row, model) else {}
    evaluation = {
        "suite": suite,
        "tasks": list(tasks) if tasks else None,
        "limit": limit,
        **template,
        **(settings or {}),
    }
    return {
        "name": name,
        "model": {"path": model, "dtype": precision, **revision},
        "data_root": data_root,
        "evaluations": {suite: evaluation},
    }


def is_row_of(row: PublishedRow, model: str) -> bool:
    """Check whether ``model`` names the row's model on the Hub, not a folder here."""
    return model.lower() == row.model.lower() and not Path(model).exists()


def judge_run(
    path: Path, row: PublishedRow, *, model: str, dtype: str, limit: int | None, tasks: Sequence[str] | None
) -> dict[str, Any]:
    """Judge a run of :func:`reproduction_recipe`, and write the verdicts to ``reproduction.json`` in its directory.

    Args:
        path: The run directory.
        row: The published row.
        model: The model as the user named it.
        dtype: What it was run in; ``auto`` for the checkpoint's own.
        limit: First documents of each task; None for all.
        tasks: The columns of this run; all if None. Others that the directory still holds are not looked at.

    Returns:
        ``model``, ``dtype``, ``limit``, ``run``, ``against`` (the row), ``verdicts`` (one per column, then the
        average's) and ``remarks``.
    """
    suite = find_suite(row.suite)
    columns = suite.select(tasks)
    source = read_source(path)
    views = next(each for each in score_views([path]) if (each.suite, each.origin) == (suite.name, OWN_TASKS))
    titles = {column.title for column in columns}
    scores = replace(views.scores, columns=tuple(each for each in views.scores.columns if each.title in titles))
    if dtype == "auto":
        dtype = str((source.manifest or {})["models"][BASE]["dtype"])
    inputs = [_inputs(path, suite, column) for column in columns]
    shown = next((name for name, own in source.recorded.items() if own == BASE), BASE)
    measured = source.results[shown]
    entries = {task: result.entry for task, result in measured.items()}
    published = of_february_2025(scores, entries) if suite.name == V2 else scores
    plain = all(each["engine"] in SAME_PROMPTS and not each["engine_args"] for each in inputs)
    as_published = is_row_of(row, model) and plain
    obstacles = {
        column.title: [*_template_obstacles(row, asked), *_obstacles(column, measured, as_published)]
        for column, asked in zip(columns, inputs, strict=True)
    }
    verdicts = judge(row, published, obstacles=obstacles)
    verdicts += judge_math_verify(row, scores, obstacles)
    found = {
        "model": model,
        "protocol": suite.name,
        "dtype": dtype,
        "engines": sorted({each["engine"] for each in inputs}),
        "limit": limit,
        "run": path.name,
        "judged": now(),
        "against": asdict(row),
        "verdicts": [{**each.as_dict(), "words": each.words} for each in verdicts],
        "remarks": [*_remarks(row, model, dtype, limit), *(_v2_remarks(row) if suite.name == V2 else ())],
    }
    write_json(path / VERDICTS, found)
    return found


def _inputs(path: Path, suite: Suite, column: Column) -> Mapping[str, Any]:
    """What decided the result of a column, from the run's record of it."""
    record = RunDirectory(path).record(f"eval/{BASE}/{suite.name}/{short_name(suite, column)}")
    inputs: Mapping[str, Any] = record["inputs"]
    return inputs


def _template_obstacles(row: PublishedRow, asked: Mapping[str, Any]) -> list[str]:
    """Why prompts are not the published row's, as far as a chat template is concerned."""
    if row.chat_template is None:
        return []
    template, multiturn = bool(asked.get("apply_chat_template")), bool(asked.get("fewshot_as_multiturn"))
    if template != row.chat_template:
        words = ("without", "with") if row.chat_template else ("with", "without")
        return [f"measured {words[0]} the chat template, published {words[1]} it"]
    if template and multiturn != row.is_multiturn:
        words = ("turns", "one message") if multiturn else ("one message", "turns")
        return [f"measured with the shots as {words[0]}, published with them as {words[1]}"]
    return []


def _obstacles(column: Column, results: Mapping[str, TaskResult], as_published: bool) -> list[str]:
    """Why a column does not compare: other data, or prompts that the published model did not see.

    lm-eval's hf engine cuts a long prompt where the old harness cut it, so the published model itself, run as it comes,
    saw the same truncated prompts.
    """
    notes = dict.fromkeys(note for leaf in column.leaves if leaf.name in results for note in results[leaf.name].notes)
    return [note for note in notes if not (as_published and "prompts truncated" in note)]


def _remarks(row: PublishedRow, model: str, dtype: str, limit: int | None) -> list[str]:
    remarks = [f"reproduced: the published value lies in our 95% interval; {ROUNDING}"]
    if limit is not None:
        remarks.append(f"the first {limit:,} documents of each task only: intervals are wider than a whole run's")
    if dtype != row.precision:
        remarks.append(f"run in {dtype}, published in {row.precision}")
    if model.lower() != row.model.lower():
        remarks.append(f"{model} is held against the row of {row.model}")
    if not is_row_of(row, model):
        remarks.append("the checkpoint was taken as it is: whether it is the published commit is not known")
    return remarks


def _v2_remarks(row: PublishedRow) -> list[str]:
    """What nobody can reproduce of a row of the second leaderboard, and what was compared."""
    return [
        "MATH Lvl 5, and with it the average, is compared by the rule of October 2024, as in the table of "
        "February 2025" + (", and by math-verify with the last state" if row.math_verify is not None else ""),
        "GPQA: the order of its options was drawn at run time and is not recorded; the one here is another",
        "which revision of the data the row was measured on is not recorded",
    ]
