"""Render one self-contained HTML page that compares models: scores, training curves, samples, provenance."""

from __future__ import annotations

from smaug_eval.reports.page import build_report

__all__ = ["build_report"]
