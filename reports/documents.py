"""Per-document values from lm-eval's samples files, quickly: only the end of each line is parsed."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reports.sources import as_number, json_lines
from smaug_eval.leaderboard.intervals import Values

# lm-eval writes a sample's metrics last. A quote inside a text is escaped, so these bytes can only be a key.
_METRICS_KEY = b'"metrics": '


def logged_values(path: Path, metric: str) -> Values | None:
    """What lm-eval logged for ``metric`` on each document of a samples file.

    Args:
        path: A ``samples_*.jsonl``.
        metric: A metric's name, or ``name,filter`` to keep the lines of one filter.

    Returns:
        One value per line, NaN where it is not a number; None where a line lacks the metric.

    Raises:
        SmaugError: a line is not a JSON object.
    """
    state = path.stat()
    return _logged_values(path, metric, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _logged_values(path: Path, metric: str, _modified: int, _size: int) -> Values | None:
    name, _, filter_name = metric.partition(",")
    values = []
    for tail in _tails(path) if not filter_name else json_lines(path):
        if filter_name and tail.get("filter") != filter_name:
            continue
        if name not in tail:
            return None
        values.append(as_number(tail[name]))
    return np.array(values)


def _tails(path: Path) -> list[dict[str, Any]]:
    """The metrics of each line, with whatever lm-eval wrote after them."""
    try:
        with path.open("rb") as lines:
            return [json.loads(b"{" + line[line.rindex(_METRICS_KEY) :]) for line in lines]
    except ValueError:  # not as 0.4.13 writes it, or still being written
        return list(json_lines(path))
