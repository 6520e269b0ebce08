"""Make many requests at a time from code that is not asynchronous, and give each answer as it comes."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from smaug_eval.common.errors import Incomplete
from smaug_eval.common.served.client import LAST_ANSWERS_SECONDS, CallFailed
from smaug_eval.engines.served.client import ModelClient

LOOK_UP_SECONDS = 1.0
"""An interruption is noticed after this long at most."""

Key = TypeVar("Key")


def answers(
    connect: Callable[[], ModelClient],
    make: Callable[[ModelClient, Key], Awaitable[Any]],
    keys: Iterable[Key],
    concurrency: int,
) -> Iterator[tuple[Key, Any]]:
    """Make one request for each key, so many at a time; yields each key with its answer, in the order of answers.

    The requests run in a thread of their own, as notebooks run a loop already. One that fails for good does not take
    the others away: the error is raised when they are done.

    Args:
        connect: Makes the client.
        make: Makes the request of a key.
        keys: In order.
        concurrency: Most requests under way.

    Raises:
        Incomplete: the model answers no request, the budget is spent, or some requests had no answer.
    """
    loop = asyncio.new_event_loop()
    with ThreadPoolExecutor(1) as thread:
        client: ModelClient | None = None
        tasks: dict[asyncio.Task[Any], Key] = {}
        failed: list[str] = []
        stopped: Incomplete | None = None
        until = math.inf
        try:
            client = connect()
            waiting = iter(keys)
            while time.monotonic() < until:
                for key in itertools.islice(waiting, concurrency - len(tasks)):
                    tasks[loop.create_task(_awaited(make(client, key)))] = key
                if not tasks:
                    break
                for task in thread.submit(loop.run_until_complete, _some(tasks)).result():
                    key = tasks.pop(task)
                    try:
                        found = task.result()
                    except CallFailed as error:
                        failed.append(error.reason)
                        continue
                    except Incomplete as error:
                        if stopped is None:  # requests under way are paid for
                            stopped, waiting = error, iter(())
                            until = time.monotonic() + LAST_ANSWERS_SECONDS
                        continue
                    yield key, found
        finally:
            for task in tasks:
                task.cancel()
            thread.submit(loop.run_until_complete, _end(list(tasks), client)).result()
            loop.close()
    if stopped is not None:
        raise stopped
    if failed:
        raise Incomplete(
            f"{len(failed):,} requests had no answer, the first for this reason: {failed[0]}",
            fix="run again: what is answered is kept in the journal, and only the others are asked",
        )


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


async def _some(tasks: Iterable[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    done, _ = await asyncio.wait(tasks, timeout=LOOK_UP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    return done


async def _end(tasks: list[asyncio.Task[Any]], client: ModelClient | None) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    if client is not None:
        await client.__aexit__(None, None, None)
