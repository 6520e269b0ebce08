"""The suites by name."""

from __future__ import annotations

from collections.abc import Callable

from smaug_eval.leaderboard import modern, v1
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.suite import Suite, nearest_or_fail

# Makers rather than suites, so that naming the leaderboard does not read the demo's files.
# The leaderboard's names come after lm-eval's, so that its own win where both know a task.
SUITES: dict[str, Callable[[], Suite]] = {
    modern.NAME: lambda: modern.SUITE,
    v1.NAME: lambda: v1.SUITE,
    "demo": demo_suite,
}


def find_suite(name: str) -> Suite:
    """The suite called ``name``.

    Raises:
        SmaugError: there is none of that name; the fix proposes the nearest.
    """
    return SUITES[nearest_or_fail(name, SUITES, "suite")]()
