"""Describe the tables in which the leaderboards' rows are archived: their columns, and what these mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from smaug_eval.leaderboard.published import SOURCE, TITLES, V1, V2, V2_TITLES

AVERAGE = "Average"
"""How the mean of the six is called in ranks and verdicts."""
RAW = " raw"
"""Behind a title, what the column of raw values is called."""


@dataclass(frozen=True)
class ArchiveFormat:
    """Hold one kind of table.

    Attributes:
        suite: The leaderboard's suite.
        titles: Its columns of scores.
        columns: Column of the file to what it is called here.
        is_raw: Whether scores are the raw values, which nothing normalised, and there is no average.
        has_fractions: Whether raw values are in [0, 1].
        hides_flagged: Whether "flagged" is True where a model is not.
        hint: Where such a file is found.
        texts: Further columns of text that a table may have, to what they are called here.
        marks: The same of columns that are True or False.
        hidden_marks: Those of ``marks`` that are True where a model is not what they say.
    """

    suite: str
    titles: tuple[str, ...]
    columns: Mapping[str, str]
    is_raw: bool = False
    has_fractions: bool = False
    hides_flagged: bool = False
    hint: str = SOURCE
    texts: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    hidden_marks: Collection[str] = ()


_NAMES = dict(zip(("ifeval", "bbh", "math", "gpqa", "musr", "mmlu_pro"), V2_TITLES, strict=True))
_RAW_NAMES = {f"{name}_raw": f"{title}{RAW}" for name, title in _NAMES.items()}
_MODEL = {"model": "model", "precision": "precision", "params_b": "billions"}

FIRST = ArchiveFormat(
    V1,
    TITLES,
    {
        "Model": "model",
        "Average ⬆️": AVERAGE,
        **{title: title for title in TITLES},
        "Precision": "precision",
        "#Params (B)": "billions",
        "Model sha": "revision",
        "Flagged": "flagged",
        "date": "date",
    },
    hides_flagged=True,
    texts={"Type": "type", "Architecture": "architecture"},
    marks={"Merged": "merged", "MoE": "moe", "Available on the hub": "on_hub"},
    # Of the rows of type "base merges" 732 of 1,009 have False under "Merged", of all others 597 of 6,160: like "MoE"
    # it holds what the leaderboard's "hide" filter keeps.
    hidden_marks=("merged", "moe"),
)
SECOND = ArchiveFormat(
    V2,
    V2_TITLES,
    {
        **_MODEL,
        "average": AVERAGE,
        **_NAMES,
        **_RAW_NAMES,
        "sha": "revision",
        "flagged": "flagged",
        "submission_date": "date",
        "chat_template": "chat_template",
    },
    hint="open-llm-leaderboard/contents",
    texts={"type": "type", "architecture": "architecture"},
    marks={"merged": "merged", "moe": "moe", "on_hub": "on_hub"},
)
SECOND_FINAL = ArchiveFormat(
    V2,
    V2_TITLES,
    {**_MODEL, **{f"{name}_raw": title for name, title in _NAMES.items()}},
    is_raw=True,
    has_fractions=True,
    hint="open-llm-leaderboard, last state",
    texts={"architecture": "architecture"},
)


def format_of(columns: Collection[str]) -> ArchiveFormat:
    """Return the format that a table has by the names of its columns; the first leaderboard's where none fits."""
    if "ifeval_raw" not in columns:
        return FIRST
    return SECOND if "average" in columns or "ifeval" in columns else SECOND_FINAL
