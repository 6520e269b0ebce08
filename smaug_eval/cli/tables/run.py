"""Print a run: the stages it has, and what it found once they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from smaug_eval.cli.tables.mt_bench import run_tables
from smaug_eval.cli.tables.scores import note_lines, published_lines, terminal_table
from smaug_eval.cli.tables.study import grid_of, grid_table, seed_means, study_of
from smaug_eval.cli.tables.views import views_table
from smaug_eval.cli.tables.whole import print_whole
from smaug_eval.results.frame import scores
from smaug_eval.results.views import rescored_views

if TYPE_CHECKING:
    from smaug_eval.runs.pipeline import Pipeline, RunResult

WORDS = {"done": "done", "new": "to do", "started": "to continue", "changed": "to redo", "damaged": "to redo"}


def print_plan(pipeline: Pipeline) -> None:
    """Print every stage with where it stands; of a study, one table for its grid."""
    table = Table("stage", "now", "why", box=None, pad_edge=False)
    states = pipeline.states()
    study = pipeline.recipe.study
    cells, listed = ({}, states) if study is None else grid_of(study, states)
    for stage, state in listed:
        table.add_row(stage.name, WORDS[state.status], Text(state.reason))
    print_whole(table)
    if study is not None:
        print_whole(grid_table(study, cells))
    for name, forecast in pipeline.requests().items():
        print(f"{name}: {forecast}")
    left = sum(state.status != "done" for _, state in states)
    print(f"{pipeline.directory.path}: {left} of {len(states)} stages to do")


def print_run(result: RunResult, quiet: bool) -> None:
    """Print the scores of a finished run, beside published ones where there are any, and where its report is."""
    frame = scores([result.path])
    study = study_of(result.path)
    shown = frame if study is None else seed_means(frame, study)
    for suite in shown["suite"].unique():
        print_whole(terminal_table(shown, suite))
        for line in note_lines(frame, suite):
            print(line)
    for views in rescored_views(result.path) if frame.empty else ():
        print_whole(views_table(views))
    for line in published_lines(result.path):
        print(line)
    for table in run_tables(result.path):
        print_whole(table)
    from smaug_eval.cli.tables.model_pairs import run_pairs

    for part in run_pairs(result.path):
        print_whole(part)
    if not quiet and not result.did:
        print("everything was done before; nothing had changed")
    print(f"report: {result.report}")
