"""Render one self-contained HTML page that compares models: scores, training curves, samples, provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smaug_eval.reports.page import build_report

__all__ = ["build_report"]


def __getattr__(name: str) -> Any:
    """Import the page when it is asked for: a process that reads samples for it needs no templates."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from smaug_eval.reports import page

    return getattr(page, name)
