"""How fast requests are answered: documents, tokens and what sharing saved, with a clock that stands still."""

from __future__ import annotations

import pytest

from smaug_eval.engines import pace
from smaug_eval.engines.pace import Pace, Work


def test_a_document_counts_when_all_its_requests_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    course = Pace(["a", "a", "b", "b", "c"], [100, 100, 50, 50, 10], recalled=[4])
    now = 102.0
    course.computed = 120
    course.answered([0, 2])
    assert str(course) == "0 docs/s, 60 tokens/s, 20% of tokens saved"
    now = 104.0
    course.answered([1])
    assert str(course) == "0.25 docs/s, 30 tokens/s, 52% of tokens saved"
    course.answered([3, 4])  # the last was recalled: it is no part of the pace
    assert course.requested == 300
    assert str(course) == "0.5 docs/s, 30 tokens/s, 60% of tokens saved"


def test_padding_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace.time, "monotonic", lambda: 0.0)
    course = Pace(["a"], [100])
    course.computed = 128
    course.answered([0])
    assert "saved" not in str(course)


def test_share_of_tokens_saved() -> None:
    assert Work(requested=400, unique=90, computed=100).saved == pytest.approx(0.75)
    assert Work(0, 0, 0, recalled=3).saved == 0.0
