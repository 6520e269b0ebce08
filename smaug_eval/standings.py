"""Where the models of runs and lm-eval results would have ranked on the archived leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from reports.sources import Source, read_source
from smaug_eval.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.archive import Archive, Standing, read_archive, standing
from smaug_eval.leaderboard.published import PUBLISHED, TITLES
from smaug_eval.model_views import OWN_TASKS, score_views

_NUMBERS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def leaderboard_rows() -> list[dict[str, Any]]:
    """The published rows we state as facts, as plain data."""
    return [asdict(row) for row in PUBLISHED]


def rank(paths: Sequence[Path], archive_file: Path, *, include_flagged: bool = False) -> dict[str, Any]:
    """Where every model found under ``paths`` would have ranked.

    Args:
        paths: Run directories, folders or files of lm-eval results; none: only the archive is described.
        archive_file: Rows of the leaderboard (CSV, CSV.gz).
        include_flagged: Also rank against the models the leaderboard flagged.

    Returns:
        ``archive``: what was read and left out; ``standings``: :class:`Standing` per model as plain data.

    Raises:
        SmaugError: the archive or a path cannot be used, or a path holds no task of ``open_llm_v1``.
    """
    archive = read_archive(archive_file)
    standings = [each.as_dict() for path in paths for each in _standings(path, archive, include_flagged)]
    return {"archive": archive.describe(include_flagged=include_flagged), "standings": standings}


def checkpoint_billions(path: Path) -> float | None:
    """Parameters of a safetensors checkpoint in billions, from the shapes in its files' headers.

    None where there is no such checkpoint, where the file is an adapter's, or where weights are packed (quantised), as
    their shapes do not tell.
    """
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in sorted(path.glob("*.safetensors")) if (path / "config.json").is_file() else []:
        try:
            with safe_open(file, framework="numpy") as tensors:
                slices = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118  # not a mapping
                if any(each.get_dtype() not in _NUMBERS for each in slices if math.prod(each.get_shape()) > 1):
                    return None
                count += sum(math.prod(each.get_shape()) for each in slices)
        except (OSError, SafetensorError):
            return None
    return count / 1e9 if count else None


def published_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Published rows for the terminal."""
    source = ", ".join(dict.fromkeys(row["source"] for row in rows))
    table = Table(
        title=f"source: {source}; --json adds precision and commit", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("model", overflow="fold")
    for heading in ("average", *TITLES):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        scores = (f"{row['scores'][title]:.2f}" for title in TITLES)
        table.add_row(f"{row['model']}\n  {row['date'] or 'undated'}", f"{row['average']:.2f}", *scores)
    return table


def dump_lines(written: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a dump of requests holds, in words."""
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
    """What :func:`rank` gives, for the terminal."""
    return Group(*map(Text, _archive_lines(found["archive"])), *map(_standing_parts, found["standings"]))


def _archive_lines(about: Mapping[str, Any]) -> list[str]:
    """What was read from an archive, in words."""
    flagged = "included" if about["include_flagged"] else "left out (--include-flagged ranks against them, too)"
    wrong = [f"{row['model']} ({row['published']:.2f}, not {row['recomputed']:.3f})" for row in about["wrong_averages"]]
    return [
        f"{about['source']}: {about['rows']:,} rows, {about['models']:,} models; left out: {about['repeated_rows']:,} "
        f"further rows of the same models (the best average counts), {about['unusable_rows']:,} without all scores",
        f"{about['flagged_rows']:,} rows flagged by the leaderboard: {flagged}",
        "average recomputed from the six columns: largest difference "
        f"{about['largest_average_difference']:.4f}, beyond 0.01: {'; '.join(wrong) or 'none'}",
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


def _standings(path: Path, archive: Archive, include_flagged: bool) -> Iterator[Standing]:
    found = [views for views in score_views([path]) if views.suite == v1.NAME]
    if not found:
        raise SmaugError(f"{path} holds no score in {v1.NAME} to rank", fix=f"evaluate on {v1.NAME} (smaug-eval eval)")
    source = read_source(path)
    for views in found:
        name, billions = _identity(source, views.model)
        own = standing(archive, views.scores, model=name, billions=billions, include_flagged=include_flagged)
        shown = f"{source.label}/{views.model}" if source.is_run else views.model
        origin = () if views.origin == OWN_TASKS else (f"from {views.origin}",)
        yield replace(own, model=shown, notes=(*own.notes, *origin))


def _identity(source: Source, model: str) -> tuple[str, float | None]:
    """A model's name on the Hub, where it has one, and its size in billions of parameters, where that is known."""
    described = ((source.manifest or {}).get("models") or {}).get(model) or {}
    billions = checkpoint_billions(Path(described["path"])) if described.get("path") else None
    if billions is None:
        counts = (each.settings["config"].get("model_num_parameters") for each in source.results[model].values())
        billions = next((count / 1e9 for count in counts if isinstance(count, int) and count > 0), None)
    return str(described.get("source") or model), billions
