"""Report columns of ready-made rows that are not used: they are named, above all scores and margins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smaug_eval.trainers.pairs.formats import unused_columns
from smaug_eval.trainers.pairs.pair import TEMPLATE_COLUMNS

_SCORES = re.compile(r"score|margin|rating|reward|weight|strength", re.IGNORECASE)


class UnusedColumns:
    """Collect the columns that were passed over, from rows given one by one.

    Attributes:
        names: Their names in the order found.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._rows = self._not_above = 0

    def look(self, row: Mapping[str, Any], form: str) -> None:
        """Record one row, which was read in the format ``form``."""
        found = unused_columns(row, form)
        self.names += [name for name in found if name not in self.names]
        differences = [row[name] - row[_rejected(name)] for name in found if _are_scores(row, name)]
        self._rows += bool(differences)
        self._not_above += bool(differences) and min(differences) <= 0

    def notes(self) -> list[str]:
        """Return a line each on scores and on data for a chat template, where there are any.

        A reader may expect their use.
        """
        found = []
        if scores := [name for name in self.names if _SCORES.search(name)]:
            note = f"columns that are not used: {', '.join(scores)} (every pair weighs the same)"
            if self._not_above:
                note += (
                    f"; in {self._not_above:,} of {self._rows:,} rows the chosen answer's score is not the higher one"
                )
            found.append(note)
        if data := [name for name in self.names if name in TEMPLATE_COLUMNS]:
            found.append(f"columns that are not used: {', '.join(data)} (rows of text have no chat template)")
        return found


def _rejected(name: str) -> str:
    return name.replace("chosen", "rejected")


def _are_scores(row: Mapping[str, Any], name: str) -> bool:
    """Whether the column holds the chosen completion's score, and another the rejected one's."""
    if "chosen" not in name or not _SCORES.search(name):
        return False
    return all(isinstance(row.get(each), int | float) for each in (name, _rejected(name)))
