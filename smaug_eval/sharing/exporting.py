"""Export results in the formats of other programs: Every Eval Ever, lm-eval's folders, and a flat table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_text
from smaug_eval.common.suggest import nearest
from smaug_eval.results import frame
from smaug_eval.results.files import warn_of_failures
from smaug_eval.sharing.every_eval_ever import Evaluator, write_every_eval_ever
from smaug_eval.sharing.lm_eval_folders import write_lm_eval
from smaug_eval.sharing.measured import read_to_share
from smaug_eval.sharing.places import Places, places_of

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("eee", "lm-eval", "csv")
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")


def export_results(
    paths: Sequence[Path], format_: str, out: Path, *, evaluator: Evaluator | None = None, force: bool = False
) -> list[Path]:
    """Write results in another program's format; paths of this machine are left out.

    Args:
        paths: Run directories, folders or files of lm-eval results.
        format_: One of :data:`FORMATS`.
        out: A new folder; for ``csv`` a file.
        evaluator: Who measured, for ``eee``.
        force: Whether a file, or a folder with something in it, may be written to.

    Returns:
        The files.

    Raises:
        SmaugError: the format is unknown, nothing is found to export, or ``out`` is in use.
    """
    if format_ not in FORMATS:
        raise SmaugError(f"--to {format_!r}: there is no such format{nearest(format_, FORMATS)}")
    who = evaluator or Evaluator()
    if who.relationship not in RELATIONSHIPS:
        raise SmaugError(f"--relationship {who.relationship!r}: unknown{nearest(who.relationship, RELATIONSHIPS)}")
    is_used = out.is_file() or (out.is_dir() and any(out.iterdir()))
    if is_used and not force:
        raise SmaugError(f"{out} exists already", fix="give another place, or write to it with --force")
    sources, comparison = read_to_share(paths)
    warn_of_failures([*(each for source in sources for each in source.unread), *comparison.unread])
    places = places_of(sources)
    if format_ == "csv":
        table = _table(paths, places)
        write_text(out, table.to_csv(index=False))
        return [out]
    if not comparison.models and not (format_ == "eee" and comparison.judged_models):
        raise SmaugError("there is no evaluation to export", fix="give finished runs, or lm-eval results")
    if format_ == "lm-eval":
        return write_lm_eval(sources, out, places)
    return write_every_eval_ever(sources, comparison, out, places, who)


def _table(paths: Sequence[Path], places: Places) -> pd.DataFrame:
    """All scores, judges' too; texts without paths."""
    import pandas as pd

    found = frame.scores(paths)
    try:
        judged = frame.judged_scores(paths)
    except SmaugError:
        judged = found.iloc[:0]
    parts = [each for each in (found, judged) if not each.empty]
    if not parts:
        raise SmaugError("there is no score to export", fix="give finished runs, lm-eval results or judgments")
    table = pd.concat(parts, ignore_index=True)
    table["n"] = table["n"].astype("Int64")
    for name in ("suite", "model", "column", "notes"):
        table[name] = [places.hide(value) if isinstance(value, str) else value for value in table[name]]
    return table
