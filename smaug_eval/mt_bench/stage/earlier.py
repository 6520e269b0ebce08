"""Find what a judge said, or refused, in an earlier call or under other settings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.records import JudgmentRecord
from smaug_eval.mt_bench.files.settings import JudgmentSettings
from smaug_eval.mt_bench.judge.judgments_file import read_records, write_records
from smaug_eval.mt_bench.judge.plan import JudgingPlan, Key
from smaug_eval.mt_bench.scores.stopped import StoppedJudging, marked


def take_over(file: Path, superseded: Sequence[Path], base_url: str | None) -> None:
    """Copy what a judge said under other settings, where there is no file yet."""
    earlier = [folder / file.name for folder in superseded]
    known = [old for old in earlier if old.is_file() and _asked_there(old, base_url)]
    if known and not file.is_file():
        shutil.copyfile(known[-1], file)
        games = known[-1].with_suffix(".games")
        if games.is_file():
            shutil.copyfile(games, file.with_suffix(".games"))


def unmark(file: Path) -> None:
    """Remove from judgments that their judging stopped early: they become some of those of all questions."""
    mark(file, {})


def mark(file: Path, stopped: Mapping[str, StoppedJudging]) -> None:
    """Let each model's judgments of single answers say how their judging stopped, and no other ones.

    Args:
        file: The judgments; where there is none, nothing is done.
        stopped: By model.
    """
    records = read_records(file)
    wanted = [marked(each, stopped.get(each.model)) if isinstance(each, JudgmentRecord) else each for each in records]
    if wanted != records:
        write_records(file, wanted)


def refused_before(file: Path, plan: JudgingPlan) -> set[Key]:
    """Return what was refused before: it is requested last, so that it does not keep all else from being judged."""
    from smaug_eval.mt_bench.judge.judging import NOT_ASKED  # with openai

    try:
        missing = JudgmentSettings.read(file).missing or ()
        refused = {
            (each["question_id"], each["turn"], tuple(each["models"]), each["repeat"])
            for each in missing
            if each["reason"] != NOT_ASKED
        }
    except (SmaugError, TypeError, KeyError, AttributeError):
        return set()
    return {
        match.key
        for match in plan.matches
        if (match.question.question_id, match.turn, match.models, match.repeat) in refused
    }


def _asked_there(judgments: Path, base_url: str | None) -> bool:
    """Return whether the settings beside a file of judgments name an endpoint; damaged ones do not."""
    try:
        settings = JudgmentSettings.read(judgments)
    except SmaugError:
        return False
    return settings.base_url == base_url
