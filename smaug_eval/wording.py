"""How the leaderboard words a question: what an evaluation shows and what a pair builder trains on is the same text.

Source: the task files of lm-evaluation-harness at commit b281b0921b63 (2023-06-15).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SHOT_SEPARATOR = "\n\n"

_BRACKETED = re.compile(r"\[.*?\]")


def question(row: Mapping[str, Any]) -> str:
    """The question of an ARC or GSM8K row, which show no choices."""
    return f"Question: {row['question']}\nAnswer:"


def clean_hellaswag(text: str) -> str:
    """Remove WikiHow's markup from a HellaSwag text."""
    text = text.strip().replace(" [title]", ". ")
    return _BRACKETED.sub("", text).replace("  ", " ")


def hellaswag_query(row: Mapping[str, Any]) -> str:
    """Activity and beginning of a HellaSwag row."""
    return clean_hellaswag(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
