"""Find what identifies a document of any lm-eval task in training pairs: its wordings, and the right answer."""

from __future__ import annotations

from typing import Any

from smaug_eval.common.text import texts_in
from smaug_eval.leaderboard.forms import Row
from smaug_eval.leaderboard.lm_eval.task_code import sandboxed_templates

WORDS = 8
"""Words from which on a part of a document identifies it by itself."""


def identity_of(task: Any, row: Row) -> tuple[list[str], str]:
    """Return the texts that identify a document, and its right answer.

    The texts are the question as the task words it and, since that wording adds words of its own ("Question:"), every
    part of the document that stands in it and is long enough; the longest part in any case. Of tasks with a context for
    each choice they are the filled-in sentences, of those that score a whole text that text.

    Args:
        task: lm-eval's task.
        row: One of its documents.

    Raises:
        ValueError: the task cannot make a prompt of the row.
    """
    try:
        with sandboxed_templates():
            return _identity(task, dict(row))
    except Exception as error:  # templates and functions of many authors
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _identity(task: Any, row: dict[str, Any]) -> tuple[list[str], str]:
    question, target = task.doc_to_text(row), task.doc_to_target(row)
    choices = _choices(task, row)
    if isinstance(question, int):  # a context for each choice, one continuation
        texts = [f"{choice} {target}" for choice in choices]
        return texts, choices[question] if 0 <= question < len(choices) else ""
    answer = _answer(target, choices)
    text = str(question)
    if not text.strip():
        return [answer], ""
    parts = sorted((part for part in texts_in(row) if part.strip() and part.strip() in text), key=len, reverse=True)
    long = [part for part in parts if len(part.split()) >= WORDS]
    return list(dict.fromkeys([text, *(long or parts[:1])])), answer


def _choices(task: Any, row: Row) -> list[str]:
    config = getattr(task, "config", None)
    if config is None or getattr(config, "doc_to_choice", None) is None:
        return []
    return [str(choice) for choice in task.doc_to_choice(row)]


def _answer(target: Any, choices: list[str]) -> str:
    first = target[0] if isinstance(target, list) and target else target
    if isinstance(first, int) and 0 <= first < len(choices):
        return choices[first]
    return str(first).strip()
