"""List the suites by name."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.tables import Table
from smaug_eval.leaderboard import modern, v1, v2
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.lm_eval.settings import NAME as LM_EVAL
from smaug_eval.leaderboard.suite import Suite, nearest_or_fail

# Makers rather than suites, so that naming the leaderboard does not read the demo's files.
# The leaderboard's names come after lm-eval's, so that its own win where both know a task.
SUITES: Table[Callable[[], Suite]] = Table(
    "suites",
    FunctionType,
    {
        modern.NAME: lambda: modern.SUITE,
        v1.NAME: lambda: v1.SUITE,
        v2.NAME: lambda: v2.SUITE,
        "demo": demo_suite,
    },
)


def find_suite(name: str) -> Suite:
    """Find the suite called ``name``.

    Raises:
        SmaugError: there is none of that name, and the fix proposes the nearest; or it is lm-eval's tasks, which have
            no fixed columns.
    """
    known = nearest_or_fail(name, suite_names(), "suite")
    if known == LM_EVAL:
        raise SmaugError(
            f"suite {LM_EVAL} has no columns of its own, only the tasks that an evaluation names",
            fix=f"use it in smaug-eval eval and in recipes, and here one of {', '.join(SUITES)}",
        )
    return SUITES[known]()


def suite_names() -> list[str]:
    """Return the suites that an evaluation can name: those with columns of their own, and lm-eval's tasks."""
    return [*SUITES, LM_EVAL]
