"""Find what a judge said, or refused, in an earlier call or under other settings."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.settings import JudgmentSettings
from smaug_eval.mt_bench.judge.plan import JudgingPlan, Key


def take_over(file: Path, superseded: Sequence[Path], base_url: str | None) -> None:
    """Copy what a judge said under other settings, where there is no file yet."""
    earlier = [folder / file.name for folder in superseded]
    known = [old for old in earlier if old.is_file() and _asked_there(old, base_url)]
    if known and not file.is_file():
        shutil.copyfile(known[-1], file)
        games = known[-1].with_suffix(".games")
        if games.is_file():
            shutil.copyfile(games, file.with_suffix(".games"))


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
