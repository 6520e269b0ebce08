"""Run a process on some machine of the cluster that does one order after the other.

Imports nothing heavy before the driver's environment is taken over.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.results.layout import stage_files
from smaug_eval.runs.cluster.probe import Facts, WorkerSetting, look_around, settle_in

if TYPE_CHECKING:
    from smaug_eval.engines.pool import EnginePool
    from smaug_eval.runs.cluster.messages import Message, Order

UNREAD = 64
"""Messages that wait to be taken before the work waits, too."""
PROGRESS_SECONDS = 0.5
STOP_SECONDS = 0.5

Send = Callable[["Message"], None]


class Worker:
    """Execute orders; made by the driver on a machine with enough room.

    Args:
        setting: Of the driver.
        settle: Agrees on a choice with the other workers: scope, name, value, whether to replace it.
    """

    def __init__(self, setting: WorkerSetting, settle: Callable[[str, str, Any, bool], Any]) -> None:
        settle_in(setting)
        self._setting, self._settle = setting, settle
        self._pool: EnginePool | None = None

    def facts(self) -> Facts:
        """Return what this machine has in common with the driver."""
        return look_around(self._setting, gpus=False)

    def work(self, order: Order) -> Iterator[Message]:
        """Execute an order; the last message is ``Done`` or ``Failed``."""
        from smaug_eval.runs.cluster.messages import Done, Failed

        messages: queue.Queue[Message] = queue.Queue(UNREAD)
        threading.Thread(target=self._perform, args=(order, messages.put), daemon=True).start()
        while True:
            message = messages.get()
            yield message
            if isinstance(message, (Done, Failed)):
                return

    def _perform(self, order: Order, send: Send) -> None:
        from smaug_eval.common.console import captured_output
        from smaug_eval.common.errors import Interrupted, SmaugError
        from smaug_eval.runs.cluster.messages import Failed

        try:
            with captured_output(order.log):
                try:
                    done = self._done(order, send)
                except BaseException:
                    traceback.print_exc()
                    raise
        except SmaugError as error:
            send(Failed(str(error), isinstance(error, Interrupted), sound=True))
        except BaseException as error:
            send(Failed(f"{type(error).__name__}: {error}", interrupted=False, sound=False))
        else:
            send(done)

    def _done(self, order: Order, send: Send) -> Message:
        import torch

        from smaug_eval.engines.pool import EnginePool
        from smaug_eval.runs.cluster.messages import Done
        from smaug_eval.runs.jobs import EvaluationJob, Workplace

        torch.set_num_threads(self._setting.threads)
        pool = self._pool = self._pool or EnginePool()
        relay = _JournalRelay(send, self._settle, pool)
        place = Workplace(pool, _SentVoice(send), _asked_to_stop(self._setting.stop), relay)
        if not isinstance(order.job, EvaluationJob):
            summary = order.job.perform(order.folder, place)
        elif order.share is None:
            summary = order.job.perform(order.folder, place, order.credit)
        else:
            order.job.perform_share(order.share, place)
            return Done({}, {})
        return Done(summary, sizes(order.folder))


class _JournalRelay:
    """Sends to the driver what belongs into the journal."""

    def __init__(self, send: Send, settle: Callable[[str, str, Any, bool], Any], pool: EnginePool) -> None:
        self._send, self._settle, self._pool = send, settle, pool
        self._computed = pool.computed

    def opened(self, scope: Mapping[str, Any]) -> None:
        from smaug_eval.runs.cluster.messages import Opened

        self._send(Opened(scope))

    def answered(self, answers: Mapping[str, Any]) -> None:
        from smaug_eval.runs.cluster.messages import Answered

        before, self._computed = self._computed, self._pool.computed
        # Less than before where another model was loaded since.
        self._send(Answered(answers, self._computed - (before if before <= self._computed else 0)))

    def settle(self, scope: str, name: str, value: Any, *, anew: bool) -> Any:
        from smaug_eval.runs.cluster.messages import Settled

        agreed = self._settle(scope, name, value, anew)
        self._send(Settled(name, agreed))
        return agreed


class _SentVoice:
    """Sends to the driver what the user should read, progress not more often than is worth it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last = 0.0

    def say(self, text: str) -> None:
        self._line(text, warning=False)

    def warn(self, text: str) -> None:
        self._line(text, warning=True)

    def update(self, done: int, total: int, note: str = "") -> None:
        from smaug_eval.runs.cluster.messages import Progress

        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            self._send(Progress(done, total, note))

    def _line(self, text: str, *, warning: bool) -> None:
        from smaug_eval.runs.cluster.messages import Said

        self._send(Said(text, warning))


def _asked_to_stop(file: Path) -> Callable[[], bool]:
    """Whether the driver's file is there, looked up now and then: the disk may be far away."""
    last, found = 0.0, False

    def asked() -> bool:
        nonlocal last, found
        if not found and time.monotonic() - last > STOP_SECONDS:
            last, found = time.monotonic(), file.exists()
        return found

    return asked


def sizes(folder: Path) -> dict[str, int]:
    """Return the sizes in bytes of what a stage left in its folder, by their paths in it."""
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in stage_files(folder)}
