"""A judge rates answers, or says which of two is better; each judgment is appended to a file as soon as it is made.

Stopped at any moment, the same call asks only for what is missing: a judgment counts as there when question, turn,
models, judge, prompt and repeat are the same and the judge was sent the same text, which holds the answers and the
references.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from smaug_eval.errors import SmaugError
from smaug_eval.mt_bench.budget import Budget, BudgetSpent
from smaug_eval.mt_bench.client import CallFailed, JudgeClient
from smaug_eval.mt_bench.endpoint import Endpoint, Reply
from smaug_eval.mt_bench.judged import (
    Game,
    drop_out_of_date,
    game_of,
    put_in_order,
    read_games,
    record_of,
    request_id,
)
from smaug_eval.mt_bench.lines import mend
from smaug_eval.mt_bench.plan import Key, Match
from smaug_eval.mt_bench.records import RecordWriter

Progress = Callable[[int, int, str], None]
Notice = Callable[[str], None]
Result = TypeVar("Result")


class JudgmentsMissing(SmaugError):
    """The judge did not answer some calls, and may another time."""


@dataclass(frozen=True)
class Outcome:
    """What came of judging.

    Attributes:
        judged: Judgments that are there now.
        new: Those of them made this time.
        missing: What the judge cannot answer: question, turn, models, repeat and reason.
    """

    judged: int
    new: int
    missing: tuple[dict[str, Any], ...] = ()


def judge_matches(
    matches: Sequence[Match], endpoint: Endpoint, budget: Budget, file: Path, *, report: Progress, notice: Notice
) -> Outcome:
    """Ask a judge about every match that it has not judged yet.

    Args:
        matches: Single answers, or pairs.
        endpoint: The judge.
        budget: Limits the calls.
        file: Judgments are appended to it; when all are there, they stand in the order of ``matches``.
        report: Receives progress.
        notice: Receives lines for the user.

    Raises:
        BudgetSpent: the budget was spent before the end.
        JudgeRefused: the judge will not answer.
        JudgeUnreachable: the judge stopped answering.
        JudgmentsMissing: all else is done, but some calls got no answer that may get one another time.
        SmaugError: the file is damaged or cannot be written.

    What is done stays in every case.
    """
    judged = drop_out_of_date(file, endpoint.model, matches, notice)
    judging = _Judging(matches, judged, endpoint, file, report, notice)
    if len(judged) < len(matches):
        run_to_end(judging.run(budget))
    judging.raise_what_stopped()
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


class _Judging:
    """The calls to make, and the judgments that come of them."""

    def __init__(
        self,
        matches: Sequence[Match],
        judged: set[Key],
        endpoint: Endpoint,
        file: Path,
        report: Progress,
        notice: Notice,
    ) -> None:
        self.games_file = file.with_suffix(".games")
        self._matches, self._endpoint, self._file, self._report, self._notice = matches, endpoint, file, report, notice
        self._before, self._new = len(judged), 0
        self._in_pairs = any(len(match.models) > 1 for match in matches)
        self._calls: deque[tuple[Match, int]] = deque()
        self._replies: dict[Key, dict[int, Reply]] = {}
        self._missed: dict[Key, str] = {}
        self._unanswered: str | None = None
        self._out_of_budget: BudgetSpent | None = None
        mend(self.games_file, notice, game_of)
        kept = read_games(self.games_file)
        for match in matches:
            if match.key in judged:
                continue
            found = [kept.get((request_id(request), match.repeat)) for request in match.requests]
            self._replies[match.key] = {game: reply for game, reply in enumerate(found) if reply is not None}
            missing = [game for game, reply in enumerate(found) if reply is None]
            # Where only the record was not written, one of its answers is asked for again.
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
                    done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
        for worker in done:
            worker.result()

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
                f"{left} of {len(self._matches)} judgments are missing: {self._unanswered}",
                fix="run again to ask for these alone; what is done is kept",
            )

    def outcome(self) -> Outcome:
        """What came of it, in the order of the matches."""
        missing = tuple(
            {
                "question_id": match.question.question_id,
                "turn": match.turn,
                "models": list(match.models),
                "repeat": match.repeat,
                "reason": self._missed[match.key],
            }
            for match in self._matches
            if match.key in self._missed
        )
        return Outcome(self._before + self._new, self._new, missing)

    async def _work(self, client: JudgeClient, writer: RecordWriter, games: RecordWriter | None) -> None:
        while self._calls:
            match, game = self._calls.popleft()
            request = match.requests[game]
            try:
                reply = await client.ask(request.system, request.user)
            except CallFailed as failure:
                self._missed[match.key] = failure.reason
                if not failure.lasting:
                    self._unanswered = failure.reason
                continue
            except BudgetSpent as error:
                self._out_of_budget = error
                self._calls.clear()  # the other workers end what they have begun
                return
            if games is not None:
                games.append(Game(request_id(request), match.repeat, reply))
            replies = self._replies[match.key]
            replies[game] = reply
            if len(replies) == len(match.requests):
                in_order = [replies[number] for number in sorted(replies)]
                writer.append(record_of(match, self._endpoint.model, in_order))
                self._new += 1
                self._report(self._before + self._new, len(self._matches), "judgments")
