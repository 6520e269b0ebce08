"""The scores as a frame and in the terminal."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from smaug_eval.cli.tables.any_tasks import task_tables
from smaug_eval.cli.tables.scores import note_lines, published_lines, terminal_table
from smaug_eval.cli.verbs import print_whole
from smaug_eval.results.scored import score_paths
from tests.results.others import accuracy, newest, write


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


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_column_of_any_tasks_vanishes(tmp_path: Path, width: int) -> None:
    """Long names fold; intervals stand below their numbers; a heading says what was asked for all tasks below it."""
    for place, name in enumerate(("a-long-organisation/model-base-8B-Instruct", "a-long-organisation/model-tuned")):
        tasks = {
            "a_task_with_a_rather_long_name": accuracy(0.5 + 0.1 * place, 0.02),
            "lambada_openai": accuracy(1234.5 - place, 2.5, "perplexity,none"),
        }
        document = newest(tasks, model=name, n={"a_task_with_a_rather_long_name": 600, "lambada_openai": 5153})
        write(tmp_path / f"{place}.json", document)
    out = io.StringIO()
    tables = task_tables(score_paths([tmp_path]).comparison)
    for part in tables.renderables:
        print_whole(part, Console(file=out, width=width))
    text = out.getvalue()
    for shown in ("60.00", "n = 600", "n = 5,153", "+10.00", "+4.46 to +15.54", "better", "p < 0.001", "1,234", "−1"):
        assert shown in text.replace("1234", "1,234"), text
    assert "acc % ↑" in " ".join(text.split())
    assert "perplexity ↓" in " ".join(text.split())


def wide_table() -> Table:
    table = Table(title="scores of an-organisation/TinyMistral-248M-v2", title_justify="left", box=None, pad_edge=False)
    for heading in ("model", "score", "95% interval", "n", "verdict"):
        table.add_column(heading, overflow="fold")
    table.add_row("Locutusque/TinyMistral-248M-v2", "29.13", "27.80 to 30.50", "1,172", "worse, p < 0.001")
    return table


def printed(part: Any, **options: Any) -> list[str]:
    out = io.StringIO()
    print_whole(part, Console(file=out, **options))
    return out.getvalue().splitlines()


def test_a_width_of_nothing_hides_no_text() -> None:
    """Where a pipeline sets COLUMNS=0."""
    assert printed(Group(Text("gate: fail"), wide_table()), width=0)[0] == "gate: fail"


def test_off_a_terminal_a_table_is_as_wide_as_it_needs() -> None:
    lines = printed(Group(Text("a line that is much longer than twenty characters"), Group(wide_table())), width=20)
    assert lines[0] == "a line that is much longer than twenty characters"
    assert lines[1] == "scores of an-organisation/TinyMistral-248M-v2"
    assert lines[3].split("  ")[0] == "Locutusque/TinyMistral-248M-v2"
    assert "27.80 to 30.50" in lines[3]
    assert lines[3].rstrip().endswith("worse, p < 0.001")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("width", "gone"), [(200, []), (64, []), (58, ["n"]), (48, ["n", "95% interval"]), (20, ["n", "95% interval"])]
)
def test_a_narrow_terminal_shows_fewer_columns_and_says_which(width: int, gone: list[str]) -> None:
    """Names are not broken: 30 characters, 5 of the score, 8 of "interval", 5 of n, 7 of "verdict", 2 between each."""
    text = "\n".join(printed(wide_table(), width=width, force_terminal=True, no_color=True))
    assert "Locutusque/TinyMistral-248M-v2" in text
    assert ("1,172" in text) == ("n" not in gone)
    assert ("27.80" in text) == ("95% interval" not in gone)
    assert all(shown in text for shown in ("29.13", "worse", "model", "verdict"))
    said = " ".join(re.sub("\x1b\\[[0-9;]*m", "", text).split())
    assert (f"left out for want of room: {', '.join(gone)}; a wider" in said) == bool(gone)
