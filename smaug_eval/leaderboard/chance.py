"""Check for a served model whose scores are those of guessing: a server that ignores ``echo`` gives such scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LEAST_DOCUMENTS = 100
"""Of fewer, a score near chance says nothing."""
_Z = 1.959963984540054


def chance_notes(configs: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return a note where the answers to all multiple-choice questions are as good as guesses.

    The accuracy of guessing is the mean of ``1 / choices`` over the documents; its variance is that of independent
    guesses.

    Args:
        configs: lm-eval's settings of each task.
        samples: The logged documents of each task.
    """
    rows = [row for task, config in configs.items() if _is_choice(config) for row in _firsts(samples.get(task, ()))]
    known = [(float(row["acc"]), len(row["resps"])) for row in rows if "acc" in row and len(row.get("resps", ())) > 1]
    if len(known) < LEAST_DOCUMENTS:
        return []
    found = sum(accuracy for accuracy, _ in known) / len(known)
    guessed = sum(1 / choices for _, choices in known) / len(known)
    spread = math.sqrt(sum((1 - 1 / choices) / choices for _, choices in known)) / len(known)
    if found > guessed + _Z * spread:
        return []
    return [
        f"at the level of guessing ({found:.1%} of {len(known):,} questions, by chance {guessed:.1%}): either the "
        "model cannot do it, or its server does not score the prompts that it is given"
    ]


def _is_choice(config: Any) -> bool:
    return isinstance(config, Mapping) and config.get("output_type") == "multiple_choice"


def _firsts(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row of each document: a task with several filters logs it once per filter."""
    return list({row["doc_id"]: row for row in rows}.values())
