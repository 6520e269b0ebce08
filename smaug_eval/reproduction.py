"""Run the leaderboard's suite on a model, and hold the result against a published row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from reports.sources import TaskResult, read_source
from smaug_eval import rundir
from smaug_eval.errors import SmaugError
from smaug_eval.evaluation import short_name
from smaug_eval.files import write_json
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.published import PublishedRow
from smaug_eval.leaderboard.reproduce import ROUNDING, judge, published_dtype
from smaug_eval.leaderboard.suite import Column
from smaug_eval.model_views import OWN_TASKS, score_views
from smaug_eval.recipe import BASE
from smaug_eval.rundir import RunDirectory

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
    """The recipe that measures a model as a published row was measured.

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
        raise SmaugError(f"the published rows were measured on {v1.NAME}", fix="leave suite out")
    precision = dtype or published_dtype(row)
    revision = {"revision": row.revision} if row.revision and is_row_of(row, model) else {}
    evaluation = {"suite": v1.NAME, "tasks": list(tasks) if tasks else None, "limit": limit, **(settings or {})}
    return {
        "name": name,
        "model": {"path": model, "dtype": precision, **revision},
        "data_root": data_root,
        "evaluations": {v1.NAME: evaluation},
    }


def is_row_of(row: PublishedRow, model: str) -> bool:
    """Whether ``model`` names the row's model on the Hub, not a folder here."""
    return model.lower() == row.model.lower() and not Path(model).exists()


def judge_run(
    path: Path, row: PublishedRow, *, model: str, dtype: str, limit: int | None, tasks: Sequence[str] | None
) -> dict[str, Any]:
    """Verdicts on a run of :func:`reproduction_recipe`, also written to ``reproduction.json`` in its directory.

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
    columns = v1.SUITE.select(tasks)
    source = read_source(path)
    views = next(each for each in score_views([path]) if (each.suite, each.origin) == (v1.NAME, OWN_TASKS))
    titles = {column.title for column in columns}
    scores = replace(views.scores, columns=tuple(each for each in views.scores.columns if each.title in titles))
    if dtype == "auto":
        dtype = str((source.manifest or {})["models"][BASE]["dtype"])
    inputs = [_inputs(path, column) for column in columns]
    plain = all(each["engine"] in SAME_PROMPTS and not each["engine_args"] for each in inputs)
    as_published = is_row_of(row, model) and plain
    obstacles = {column.title: _obstacles(column, source.results[BASE], as_published) for column in columns}
    found = {
        "model": model,
        "protocol": v1.NAME,
        "dtype": dtype,
        "engines": sorted({each["engine"] for each in inputs}),
        "limit": limit,
        "run": path.name,
        "judged": rundir.now(),
        "against": asdict(row),
        "verdicts": [{**each.as_dict(), "words": each.words} for each in judge(row, scores, obstacles=obstacles)],
        "remarks": _remarks(row, model, dtype, limit),
    }
    write_json(path / VERDICTS, found)
    return found


def verdict_tables(found: Mapping[str, Any]) -> Group:
    """Verdicts for the terminal."""
    row = found["against"]
    commit = f", commit {row['revision'][:8]}" if row["revision"] else ""
    title = f"{found['model']} against {row['model']} ({row['precision']}{commit}, {row['date'] or 'no date'}; "
    table = Table(title=Text(f"{title}{row['source']})"), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in ("published", "ours", "gap", "95% interval", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    colours = {"reproduced": "green", "not reproduced": "red"}
    for verdict in found["verdicts"]:
        outcome = Text(verdict["outcome"], style=colours.get(verdict["outcome"], "yellow"))
        table.add_row(verdict["column"], f"{verdict['published']:.2f}", *_measured(verdict), outcome)
    return Group(table, *map(Text, [*_reasons(found["verdicts"]), *found["remarks"]]))


def _measured(verdict: Mapping[str, Any]) -> tuple[str, str, str, str]:
    if verdict["ours"] is None:
        return "", "", "", ""
    interval = verdict["interval"]
    span = "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    return f"{verdict['ours']:.2f}", f"{verdict['gap']:+.2f}", span, f"{verdict['n']:,}"


def _reasons(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why columns do not compare, and what else is to know of them, each reason once with its columns."""
    columns: dict[str, list[str]] = {}
    for verdict in verdicts:
        because = [verdict["words"]] if verdict["words"] != verdict["outcome"] else []
        for reason in (*because, *verdict["notes"]):
            columns.setdefault(reason, []).append(verdict["column"])
    return [f"{', '.join(names)}: {reason}" for reason, names in columns.items()]


def _inputs(path: Path, column: Column) -> Mapping[str, Any]:
    """What decided the result of a column, from the run's record of it."""
    record = RunDirectory(path).record(f"eval/{BASE}/{v1.NAME}/{short_name(v1.SUITE, column)}")
    inputs: Mapping[str, Any] = record["inputs"]
    return inputs


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
