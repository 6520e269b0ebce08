"""Judge answers, one by one or in pairs; each judgment is appended to a file as soon as it is made.

Stopped at any moment, the same call asks only for what is missing: a judgment counts as there when question, turn,
models, judge, prompt and repeat are the same and the judge was sent the same text, which holds the answers and the
references.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from smaug_eval.common.errors import Incomplete
from smaug_eval.common.served.budget import Budget, BudgetSpent
from smaug_eval.common.served.client import LAST_ANSWERS_SECONDS, NotAsked
from smaug_eval.common.served.endpoint import Endpoint, Reply
from smaug_eval.mt_bench.files.lines import mend
from smaug_eval.mt_bench.files.records import RecordWriter
from smaug_eval.mt_bench.judge.client import CallFailed, JudgeClient, JudgeRefused, JudgeUnreachable
from smaug_eval.mt_bench.judge.judgments_file import (
    Game,
    drop_out_of_date,
    game_of,
    put_in_order,
    read_games,
    record_of,
    request_id,
)
from smaug_eval.mt_bench.judge.plan import Key, Match

Progress = Callable[[int, int, str], None]
Notice = Callable[[str], None]
Result = TypeVar("Result")


NOT_ASKED = "not asked"
"""Why a judgment is missing where the judging stopped before."""
_REASONS_SHOWN = 3


class JudgmentsMissing(Incomplete):
    """Report that the judge did not answer some calls."""


@dataclass(frozen=True)
class JudgingResult:
    """Hold the result of judging.

    Attributes:
        judged: Judgments that are there now.
        new: Those of them made this time.
        missing: What the judge did not answer: question, turn, models, repeat and reason.
        fix: What fixes most of that; empty where nothing is missing.
    """

    judged: int
    new: int
    missing: tuple[dict[str, Any], ...] = ()
    fix: str = ""

    @property
    def reasons(self) -> str:
        """Return why judgments are missing, the commonest reason first."""
        counts = Counter(str(each["reason"]) for each in self.missing)
        shown = [f"{number} x {reason}" for reason, number in counts.most_common(_REASONS_SHOWN)]
        more = len(counts) - len(shown)
        return "; ".join(shown) + (f"; and {more} more reasons" if more > 0 else "")


def judge_matches(
    matches: Sequence[Match],
    endpoint: Endpoint,
    budget: Budget,
    file: Path,
    *,
    report: Progress,
    notice: Notice,
    verdict: str | None = None,
    last: Collection[Key] = (),
) -> JudgingResult:
    """Judge every match that the judge has not judged yet.

    Args:
        matches: Single answers, or pairs.
        endpoint: The judge.
        budget: Limits the calls.
        file: Judgments are appended to it; when all are there, they stand in the order of ``matches``.
        report: Receives progress.
        notice: Receives lines for the user.
        verdict: The set's own pattern for what the judge decided; None for FastChat's rule.
        last: What is requested behind all else, such as what was refused before.

    Raises:
        BudgetSpent: the budget was spent before the end.
        JudgeRefused: the judge will not answer.
        JudgeUnreachable: the judge stopped answering.
        JudgmentsMissing: all else is done, but some calls got no answer that may get one another time.
        SmaugError: the file is damaged or cannot be written.

    What is done stays in every case, and the error's ``result`` is the :class:`JudgingResult`.
    """
    judged = drop_out_of_date(file, endpoint.model, matches, notice, verdict)
    judging = _JudgingRun(matches, judged, endpoint, file, report, notice, verdict, last)
    try:
        if len(judged) < len(matches):
            run_to_end(judging.run(budget))
        judging.raise_what_stopped()
    except Incomplete as error:
        error.result = judging.outcome()
        raise
    outcome = judging.outcome()
    if not outcome.missing:
        judging.games_file.unlink(missing_ok=True)
    put_in_order(file, endpoint.model, matches)
    return outcome


def run_to_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine, also where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class _JudgingRun:
    """The calls to make, and the judgments that come of them."""

    def __init__(
        self,
        matches: Sequence[Match],
        judged: set[Key],
        endpoint: Endpoint,
        file: Path,
        report: Progress,
        notice: Notice,
        verdict: str | None,
        last: Collection[Key],
    ) -> None:
        self.games_file = file.with_suffix(".games")
        self._matches, self._endpoint, self._file, self._report, self._notice = matches, endpoint, file, report, notice
        self._verdict = verdict
        self._judged = set(judged)
        self._before, self._new = len(judged), 0
        self._in_pairs = any(len(match.models) > 1 for match in matches)
        self._calls: deque[tuple[Match, int]] = deque()
        self._replies: dict[Key, dict[int, Reply]] = {}
        self._missed: dict[Key, str] = {}
        self._fixes: Counter[str] = Counter()
        self._unanswered: str | None = None
        self._out_of_budget: BudgetSpent | None = None
        self._stopped: JudgeRefused | JudgeUnreachable | None = None
        mend(self.games_file, notice, game_of)
        kept = read_games(self.games_file)
        for match in sorted(matches, key=lambda match: match.key in last):
            if match.key in judged:
                continue
            found = [kept.get((request_id(request), match.repeat)) for request in match.requests]
            self._replies[match.key] = {game: reply for game, reply in enumerate(found) if reply is not None}
            missing = [game for game, reply in enumerate(found) if reply is None]
            # Where only the record was not written, one of its answers is requested again.
            self._calls += [(match, game) for game in missing or [0]]

    async def run(self, budget: Budget) -> None:
        """Make the calls, as many at a time as the endpoint allows."""
        with contextlib.ExitStack() as files:
            writer = files.enter_context(RecordWriter(self._file))
            games = files.enter_context(RecordWriter(self.games_file)) if self._in_pairs else None
            for file in filter(None, (writer, games)):
                if file.repaired:
                    self._notice(file.repaired)
            async with JudgeClient(self._endpoint, budget, self._notice) as client:
                number = min(self._endpoint.concurrency, len(self._calls))
                workers = [asyncio.create_task(self._work(client, writer, games)) for _ in range(number)]
                try:
                    under_way: set[asyncio.Task[None]] = set(workers)
                    while under_way and self._stopped is None:
                        done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                        for worker in done:
                            worker.result()
                    if under_way:  # these requests are paid for
                        await asyncio.wait(under_way, timeout=LAST_ANSWERS_SECONDS)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
        if self._stopped is not None:
            raise self._stopped

    def raise_what_stopped(self) -> None:
        """Say what kept some judgments from being made, if it may be otherwise another time.

        Raises:
            BudgetSpent: see :func:`judge_matches`.
            JudgmentsMissing: see there, too.
        """
        left = len(self._matches) - self._before - self._new
        if self._out_of_budget is not None:
            error = self._out_of_budget
            raise BudgetSpent(f"{error.message}; {left} of {len(self._matches)} judgments are left", fix=error.fix)
        if self._unanswered is not None:
            raise JudgmentsMissing(
                f"{left} of {len(self._matches)} judgments are missing: {self.outcome().reasons}",
                fix="run again to ask for these alone; what is done is kept",
            )

    def outcome(self) -> JudgingResult:
        """What came of it, in the order of the matches."""
        missing = tuple(
            {
                "question_id": match.question.question_id,
                "turn": match.turn,
                "models": list(match.models),
                "repeat": match.repeat,
                "reason": self._missed.get(match.key, NOT_ASKED),
            }
            for match in self._matches
            if match.key not in self._judged
        )
        fix = self._fixes.most_common(1)[0][0] if self._fixes else ""
        return JudgingResult(self._before + self._new, self._new, missing, fix if missing else "")

    async def _work(self, client: JudgeClient, writer: RecordWriter, games: RecordWriter | None) -> None:
        while self._calls:
            match, game = self._calls.popleft()
            request = match.requests[game]
            try:
                reply = await client.ask(request.system, request.user)
            except NotAsked:
                continue
            except CallFailed as failure:
                self._missed[match.key] = failure.reason
                self._fixes[client.fix(failure.kind)] += 1
                if not failure.lasting:
                    self._unanswered = failure.reason
                continue
            except BudgetSpent as error:
                self._out_of_budget = error
                self._calls.clear()  # the other workers end what they have begun
                return
            except (JudgeRefused, JudgeUnreachable) as error:
                self._missed[match.key] = error.message
                self._stopped = self._stopped or error
                self._calls.clear()
                return
            if games is not None:
                games.append(Game(request_id(request), match.repeat, reply))
            replies = self._replies[match.key]
            replies[game] = reply
            if len(replies) == len(match.requests):
                in_order = [replies[number] for number in sorted(replies)]
                writer.append(record_of(match, self._endpoint.model, in_order, self._verdict))
                self._judged.add(match.key)
                self._new += 1
                self._report(self._before + self._new, len(self._matches), "judgments")
