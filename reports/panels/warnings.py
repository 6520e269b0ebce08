"""Tell what a reader must know before trusting a number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from smaug_eval.reports.panels.answers import answer_warnings
from smaug_eval.reports.panels.dialogues import dialogue_warnings
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.panels.scores import unranked
from smaug_eval.reports.study.tables import warnings_of_all
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.oddities import result_notes
from smaug_eval.results.sources import unread_notes

COMPARISONS, SCORES, JUDGES, MISSING, TRAINING, HARMLESS = (
    "Whether models compare",
    "What scores mean",
    "What a judge's scores mean",
    "What is missing",
    "What trainings did",
    "What changes no conclusion",
)
"""What warnings endanger, the worst first; those of the last are folded."""
DANGERS = (COMPARISONS, SCORES, JUDGES, MISSING, TRAINING, HARMLESS)

_OF_JUDGES = re.compile(r"judg|answers cut off|dialogue|turns? without", re.I)
_OF_TRAINING = re.compile(r"\bstep \d+ of \d+\b|likely than the (?:base|reference)|pairs\b|penalty", re.I)
_HARMLESS = re.compile(
    r"all prompts are the same nevertheless|not recorded for|^(?:batch size|hardware|transformers|engine): "
)
"""What leaves documents, prompts and scoring alone: machinery, and settings that one side does not record."""


class Warned(NamedTuple):
    """Hold a warning.

    Attributes:
        text: The sentence.
        danger: One of :data:`DANGERS`.
        find: Where the page shows what it is about; empty where it does not.
    """

    text: str
    danger: str
    find: str = ""


class WarningGroup(NamedTuple):
    """Hold the warnings that endanger the same; ``is_folded`` where they change no conclusion."""

    danger: str
    items: list[Warned]
    is_folded: bool


def warnings(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show what a reader must know before trusting a number, by what it endangers."""
    groups = warning_groups(comparison)
    return {"groups": groups} if groups else None


def warning_groups(comparison: Comparison) -> list[WarningGroup]:
    """Group the warnings by what they endanger, the worst first."""
    found = all_warnings(comparison)
    groups = [WarningGroup(each, [own for own in found if own.danger == each], each == HARMLESS) for each in DANGERS]
    return [group for group in groups if group.items]


def warning_lines(comparison: Comparison) -> list[str]:
    """Return the warnings as sentences, each once."""
    return [each.text for each in all_warnings(comparison)]


def all_warnings(comparison: Comparison) -> list[Warned]:
    """Return the warnings in the order in which they were found, each once."""
    items = [
        *(Warned(text, MISSING) for text in _unread(comparison)),
        *_source_warnings(comparison),
        *(Warned(f"{note}.", SCORES) for note in result_notes(comparison)),
        *(Warned(each.text, SCORES, each.find) for each in answer_warnings(comparison)),
        *(Warned(text, JUDGES) for text in dialogue_warnings(comparison)),
        *(Warned(text, COMPARISONS) for text in comparison.incomparable()),
        *(Warned(text, HARMLESS if _is_harmless(text) else COMPARISONS) for text in comparison.remarks()),
        *(Warned(text, MISSING) for text in filter(None, [unranked(comparison)])),
    ]
    return list({each.text: each for each in reversed(items)}.values())[::-1]


def _is_harmless(remark: str) -> bool:
    """Return whether a remark beside a comparison is of machinery alone, as :func:`Comparison.remarks` words it."""
    about = remark.split(": ", 1)[-1] if " against " in remark else remark
    return bool(_HARMLESS.search(about))


def _danger(recorded: str) -> str:
    """Return what a warning that a run recorded endangers, by its words."""
    if _OF_JUDGES.search(recorded):
        return JUDGES
    return TRAINING if _OF_TRAINING.search(recorded) else SCORES


def _unread(comparison: Comparison) -> Iterator[str]:
    """Say what was found and not read."""
    many = len(comparison.sources) > 1
    for source in comparison.sources:
        for note in unread_notes(source):
            yield f"{source.label}: {note}." if many else f"{note[:1].upper()}{note[1:]}."
    for each in comparison.unread:
        yield f"Not read: {each.path.name}: {each.reason}."


def _source_warnings(comparison: Comparison) -> Iterator[Warned]:
    many = len(comparison.sources) > 1
    for source in comparison.sources:
        prefix = f"{source.label}: " if many else ""
        texts = _texts((source.manifest or {}).get("warnings"))
        if source.manifest is None:  # trainings on their own: a run's manifest has theirs
            texts += [
                f"{each.name}: {text}" for each in source.trainings for text in _texts(each.summary.get("warnings"))
            ]
        if comparison.study is not None:
            texts = warnings_of_all(comparison.study, texts)
        for text in texts:
            yield Warned(f"{prefix}{text}", _danger(text))
        if source.missing:
            yield Warned(f"{prefix}This run is not complete: {'; '.join(source.missing)}.", MISSING)
        for note in source.notes:
            yield Warned(f"{prefix}{note}.", HARMLESS)


def _texts(recorded: object) -> list[str]:
    return [str(text) for text in recorded] if isinstance(recorded, list) else []


PANEL = Panel("warnings", "What to know", warnings)
