"""Show every pair of models in the terminal: which is best, and how any two compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from smaug_eval.common.text import visible
from smaug_eval.reports.pair_matrices import MatrixEntry, PairMatrix, best_statements, pair_matrices, too_many
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.merging import with_distinct_labels
from smaug_eval.results.sources import read_sources

MOST_LISTED = 4
"""Models up to which pairs are listed line by line; more make a matrix."""


def pair_parts(comparison: Comparison) -> Iterator[Table | Text]:
    """Yield which model is best, and a table of every pair, for each suite and set of judged questions.

    Nothing where there are two models or fewer, or a study.
    """
    if comparison.study is not None:
        return
    if note := too_many(comparison):
        yield Text(f"{visible(note)}.")
    matrices = [each for each in pair_matrices(comparison) if len(each.models) > 2]
    for each in best_statements(matrices):
        yield Text(f"{visible(each.model)} {visible(each.text)}{f': {each.verdict}' if each.verdict else ''}")
    for matrix in matrices:
        yield _listed(matrix) if len(matrix.models) <= MOST_LISTED else _matrix(matrix)


def run_pairs(run: Path) -> Iterator[Table | Text]:
    """Yield the same of the models of a run directory."""
    sources = with_distinct_labels(read_sources([run]))
    yield from pair_parts(compare(sources, title=None, baseline=None))


def _title(matrix: PairMatrix) -> Text:
    return Text(f"any two models, {visible(matrix.title)} ({matrix.unit}; p adjusted over {matrix.family})")


def _listed(matrix: PairMatrix) -> Table:
    table = Table(title=_title(matrix), title_justify="left", box=None, pad_edge=False)
    table.add_column("model")
    table.add_column("against")
    for heading in ("difference", "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for place, other in enumerate(matrix.models):
        for model in matrix.models[place + 1 :]:
            entry = matrix.entries[model, other]
            verdict = ", ".join(filter(None, (entry.outcome, entry.p_value)))
            cells = (entry.apart, entry.interval.replace(", ", " to "), verdict or "not compared")
            table.add_row(*map(Text, (visible(model), visible(other), *cells)))
    return table


def _matrix(matrix: PairMatrix) -> Table:
    table = Table(title=_title(matrix), title_justify="left", box=None, pad_edge=False)
    table.add_column("row less column")
    table.add_column("score", justify="right", no_wrap=True)
    for model in matrix.models:
        table.add_column(Text(visible(model)), justify="right")
    for row in matrix.models:
        cells = ["" if row == column else _cell(matrix.entries[row, column]) for column in matrix.models]
        table.add_row(Text(visible(row)), matrix.scores[row], *map(Text, cells))
    return table


def _cell(entry: MatrixEntry) -> str:
    return " ".join(filter(None, (entry.mark, entry.apart))) or ("not compared" if entry.why_not else "0")
