"""Find the question set of an ``mt_bench`` entry, or the part of one that it uses."""

from __future__ import annotations

from pathlib import Path

from smaug_eval.mt_bench.config import DEMO, MT_BENCH, MtBenchConfig
from smaug_eval.mt_bench.demo import demo_question_set
from smaug_eval.mt_bench.files.fetch import fetch_mt_bench
from smaug_eval.mt_bench.files.question_files import load_question_set
from smaug_eval.mt_bench.files.questions import QuestionSet, Selection, select


def find_question_set(questions: str, references: str, selection: Selection | None = None) -> QuestionSet:
    """Find a question set, or a part of one, by its name or folder; MT-Bench is fetched where it is not there yet.

    Raises:
        SmaugError: it is not there, cannot be fetched, or is malformed.
    """
    if questions == DEMO:
        return select(demo_question_set(), selection or Selection())
    folder = fetch_mt_bench(references) if questions == MT_BENCH else Path(questions).expanduser()
    return load_question_set(folder, references, selection=selection)


def selection_of(config: MtBenchConfig) -> Selection:
    """Return the part of its question set that an entry uses."""
    categories = config.reference_categories
    return Selection(config.limit, config.turns, None if categories is None else tuple(categories))
