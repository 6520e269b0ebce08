"""A study for the terminal: arms x pair sets, instead of a line for each of its stages and models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from smaug_eval.study.config import Study, training_name

if TYPE_CHECKING:
    from smaug_eval.pipeline import Stage
    from smaug_eval.rundir import StageState

DONE = "done"


@dataclass
class Cell:
    """The seeds of one arm on one pair set: stages by what they do.

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


Grid = dict[tuple[str, str], Cell]
"""The cell of each arm and pair set."""


def grid_of(study: Study, states: Sequence[tuple[Stage, StageState]]) -> tuple[Grid, list[tuple[Stage, StageState]]]:
    """The stages of a study's trainings and of what needs nothing else, as a grid; and the other stages, in order."""
    cells: Grid = {(arm, name): Cell() for arm, config in study.arms.items() for name in config.sets}
    stage_cells = {
        f"train/{training_name(arm, pair_set, seed)}": cell
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
    """A line per arm: trainings done of those there are on each pair set, and evaluations over all of them."""
    sets = list(dict.fromkeys(name for config in study.arms.values() for name in config.sets))
    table = Table(title="trainings done, by pair set", title_justify="left", box=None, pad_edge=False)
    table.add_column("arm")
    for name in (*sets, "evaluations"):
        table.add_column(name, justify="right")
    for arm in study.arms:
        row = [cells.get((arm, name), Cell()) for name in sets]
        evaluations = f"{sum(cell.evaluated for cell in row)}/{sum(cell.evaluations for cell in row)}"
        table.add_row(arm, *map(str, row), evaluations)
    return table
