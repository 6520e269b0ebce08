"""Show a study in the terminal: arms x pair sets, and means over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.table import Table

from smaug_eval.common.files import read_json
from smaug_eval.results.layout import MANIFEST, training_stage
from smaug_eval.trainers.study import Study
from smaug_eval.trainers.study_names import training_name

if TYPE_CHECKING:
    from smaug_eval.runs.directory import StageState
    from smaug_eval.runs.execution import Stage


DONE = "done"


@dataclass
class GridCell:
    """Count the seeds of one arm on one pair set: stages by what they do.

    Attributes:
        trainings: Trainings there are.
        trained: Those that are done.
        evaluations: Evaluations and dialogues of the trained models there are.
        evaluated: Those that are done.
        states: Trainings by how they stand.
    """

    trainings: int = 0
    trained: int = 0
    evaluations: int = 0
    evaluated: int = 0
    states: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        if not self.trainings:
            return ""
        remarks = [f"{self.states[state]} {state}" for state in ("started", "changed", "damaged") if self.states[state]]
        return f"{self.trained}/{self.trainings}" + (f" ({', '.join(remarks)})" if remarks else "")


Grid = dict[tuple[str, str], GridCell]
"""The cell of each arm and pair set."""


def grid_of(study: Study, states: Sequence[tuple[Stage, StageState]]) -> tuple[Grid, list[tuple[Stage, StageState]]]:
    """Return the stages of a study's trainings and of what needs nothing else, as a grid.

    And the other stages, in order.
    """
    cells: Grid = {(arm, name): GridCell() for arm, config in study.arms.items() for name in config.sets}
    stage_cells = {
        training_stage(training_name(arm, pair_set, seed)): cell
        for (arm, pair_set), cell in cells.items()
        for seed in study.seeds_of(arm)
    }
    others = []
    for stage, state in states:
        done = state.status == DONE
        if stage.name in stage_cells:
            cell = stage_cells[stage.name]
            cell.trainings += 1
            cell.trained += done
            cell.states[state.status] += 1
        elif len(stage.needs) == 1 and stage.needs[0] in stage_cells:
            cell = stage_cells[stage.needs[0]]
            cell.evaluations += 1
            cell.evaluated += done
        else:
            others.append((stage, state))
    return cells, others


def grid_table(study: Study, cells: Grid) -> Table:
    """Return a line per arm: trainings done of those there are on each pair set, and evaluations over all of them."""
    sets = list(dict.fromkeys(name for config in study.arms.values() for name in config.sets))
    table = Table(title="trainings done, by pair set", title_justify="left", box=None, pad_edge=False)
    table.add_column("arm")
    for name in (*sets, "evaluations"):
        table.add_column(name, justify="right")
    for arm in study.arms:
        row = [cells.get((arm, name), GridCell()) for name in sets]
        evaluations = f"{sum(cell.evaluated for cell in row)}/{sum(cell.evaluations for cell in row)}"
        table.add_row(arm, *map(str, row), evaluations)
    return table


def study_of(run: Path) -> Study | None:
    """Return the study that a run directory is of; None if it is of none."""
    found = read_json(run / MANIFEST)["recipe"].get("study")
    return None if found is None else Study.model_validate(found)


def seed_means(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Average the scores of :func:`smaug_eval.results.frame.scores` over the seeds of each arm and pair set.

    A mean has no standard error of its own here; the other models keep theirs.
    """
    rows = {
        training_name(arm, pair_set, seed): f"{arm}.{pair_set}"
        for arm, config in study.arms.items()
        for pair_set in config.sets
        for seed in study.seeds_of(arm)
    }
    of_grid = frame["model"].isin(list(rows))
    keys = ["suite", "model", "column", "metric"]
    groups = frame[of_grid].assign(model=frame["model"].map(rows)).groupby(keys, sort=False)["score"]
    means = groups.agg(["mean", "size"]).reset_index().rename(columns={"mean": "score"})
    means["model"] += ", mean of " + means.pop("size").astype(str)
    return pd.concat([frame[~of_grid], means], ignore_index=True)
