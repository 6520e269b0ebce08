"""The scores as a frame and in the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
from rich.console import Console

from smaug_eval.tables import note_lines, published_lines, terminal_table


def test_the_table_shows_score_and_standard_error() -> None:
    rows = [
        ("open_llm_v1", "base", "ARC", "acc_norm", 50.04, 1.46, 1172, None, ""),
        ("open_llm_v1", "dpop", "ARC", "acc_norm", 51.2, None, 1172, 1.16, ""),
        ("demo", "base", "Facts", "acc_norm", 1.0, 1.0, 1, None, ""),
    ]
    frame = pd.DataFrame(rows, columns=["suite", "model", "column", "metric", "score", "stderr", "n", "delta", "notes"])
    out = io.StringIO()
    Console(file=out, width=100).print(terminal_table(frame, "open_llm_v1"))
    text = out.getvalue()
    assert "50.0±1.5" in text
    assert "51.2" in text
    assert "Facts" not in text


def test_a_model_of_the_archived_leaderboard_gets_its_published_row(tmp_path: Path) -> None:
    models = {"base": {"source": "abacusai/Smaug-34B-v0.1"}, "dpop": {"source": "somewhere/else"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"models": models}))
    assert published_lines(tmp_path) == [
        "published for abacusai/Smaug-34B-v0.1 (bfloat16): average 77.29; "
        "ARC 74.23, HellaSwag 86.76, MMLU 76.66, TruthfulQA 70.22, Winogrande 83.66, GSM8K 72.18"
    ]


def test_notes_are_said_once_with_the_models_they_are_about() -> None:
    rows = [
        ("demo", "base", "ARC", "acc", 1.0, "5 of 9 documents"),
        ("demo", "dpop", "ARC", "acc", 1.0, "5 of 9 documents"),
        ("demo", "dpop", "GSM8K", "acc", 1.0, "3 of 4 prompts truncated"),
        ("demo", "base", "average of six", "mean", 1.0, "ARC: 5 of 9 documents"),
        ("other", "base", "ARC", "acc", 1.0, "elsewhere"),
    ]
    frame = pd.DataFrame(rows, columns=["suite", "model", "column", "metric", "score", "notes"])
    assert note_lines(frame, "demo") == ["ARC: 5 of 9 documents", "GSM8K: 3 of 4 prompts truncated (dpop)"]
