"""A panel: the names of the models, in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smaug_eval.reports.panels.panel import Panel
from smaug_eval.results.comparison import Comparison


def colours(comparison: Comparison) -> Mapping[str, Any]:
    """Return what the template shows."""
    return {"names": [name.upper() for name in comparison.models]}


PANEL = Panel("colours", "Colours & things", colours, folder=Path(__file__).parent, after="scores")
