"""Show the leaderboard's rows, ranks and requests in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text


def published_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return published rows for the terminal."""
    source = ", ".join(dict.fromkeys(row["source"] for row in rows))
    table = Table(
        title=f"source: {source}; --json adds precision and commit", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("model", overflow="fold")
    titles = list(dict.fromkeys(title for row in rows for title in row["scores"]))
    for heading in ("average", *titles):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        scores = (f"{row['scores'][title]:.2f}" for title in titles)
        table.add_row(f"{row['model']}\n  {row['date'] or 'undated'}", f"{row['average']:.2f}", *scores)
    return table


def dump_lines(written: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return lines that describe a dump of requests."""
    total = {key: sum(each[key] for each in written) for key in ("documents", "requests")}
    notes = dict.fromkeys(note for each in written for note in each["notes"])
    return [
        *(f"{each['task']}: {_counts(each)}, sha256 {each['sha256']}" for each in written),
        f"{len(written)} tasks: {_counts(total)}",
        *(f"not the official data: {note}" for note in notes),
    ]


def _counts(each: Mapping[str, Any]) -> str:
    return f"{each['documents']:,} documents, {each['requests']:,} requests"


def ranking_text(found: Mapping[str, Any]) -> Group:
    """Return what :func:`rank` gives, for the terminal."""
    left_out = [f"{model} is not ranked: no results of the leaderboard's six benchmarks" for model in found["left_out"]]
    return Group(
        *map(Text, _archive_lines(found["archive"])),
        *map(_standing_parts, found["standings"]),
        *map(Text, [*left_out, *found["notes"]]),
    )


def _archive_lines(about: Mapping[str, Any]) -> list[str]:
    """Describe what was read from an archive."""
    flagged = "included" if about["include_flagged"] else "left out (--include-flagged ranks against them, too)"
    wrong = [f"{row['model']} ({row['published']:.2f}, not {row['recomputed']:.3f})" for row in about["wrong_averages"]]
    averages = (
        ["raw columns, rounded: no average can be recomputed, and the mean of the raw ones says which row is the best"]
        if about.get("is_raw")
        else [
            "average recomputed from the six columns: largest difference "
            f"{about['largest_average_difference']:.4f}, beyond 0.01: {'; '.join(wrong) or 'none'}"
        ]
    )
    if "largest_normalised_difference" in about:
        averages.append(
            "IFEval, MATH Lvl 5, GPQA and MMLU-Pro normalised from their raw columns: largest difference "
            f"{about['largest_normalised_difference']:.1e}"
        )
    return [
        f"{about['source']}: {about['rows']:,} rows, {about['models']:,} models; left out: {about['repeated_rows']:,} "
        f"further rows of the same models (the best average counts), {about['unusable_rows']:,} without all scores",
        f"{about['flagged_rows']:,} rows flagged by the leaderboard: {flagged}",
        *averages,
    ]


def _standing_parts(each: Mapping[str, Any]) -> Group:
    """A table, with what must be known below it."""
    size = "size unknown" if each["billions"] is None else f"{each['billions']:.3g} B, class {each['size_class']}"
    table = Table("", "among", "score", "rank", "95%", "better than")
    for heading in ("next above", "next below"):
        table.add_column(heading, overflow="fold")
    table.title, table.title_justify = Text(f"{each['model']} ({size})"), "left"
    remarks = [*each["notes"]]
    for row in each["ranks"]:
        span = "" if row["best"] is None else f"{row['best']:,} to {row['worst']:,}"
        better = "" if row["percentile"] is None else f"{row['percentile']:.1f}%"
        marked = f"{row['rank']:,} of {row['models'] + 1:,}{'*' if row['not_comparable'] else ''}"
        among = "all" if row["size_class"] is None else f"class {row['size_class']}"
        cells = (row["column"], among, f"{row['score']:.2f}", marked, span, better)
        table.add_row(*cells, *(_neighbour(row[side]) for side in ("above", "below")))
        if row["not_comparable"] and row["size_class"] is None:
            remarks.append(f"* {row['column']}: not comparable: {'; '.join(row['not_comparable'])}")
    return Group(table, *map(Text, remarks))


def _neighbour(found: Sequence[Mapping[str, Any]]) -> Text:
    return Text(f"{found[0]['model']} {found[0]['score']:.2f}" if found else "")
