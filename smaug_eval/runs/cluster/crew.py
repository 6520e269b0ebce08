"""Assign work to workers: started where there is room, and kept on the model they have loaded, if possible."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from smaug_eval.runs.cluster.messages import Done, Failed, Message, Order
from smaug_eval.runs.cluster.needs import Need
from smaug_eval.runs.cluster.probe import WorkerSetting, misfit
from smaug_eval.runs.cluster.ray_library import Lost, WorkerProcess, next_message, nodes, wait
from smaug_eval.runs.jobs import TrainingJob

Kind = tuple[Need, str]

MOST_TRIES = 3
STRANDED_SECONDS = 600.0
"""How long work waits for a machine that has room for it, after the last one is gone."""
NODES_SECONDS = 5.0
URGENT_SECONDS = 15.0
"""How long earlier work waits for room before later work of another kind makes it."""
MESSAGES = 32
"""Of one worker, that are taken before the others are looked at again."""


@dataclass(eq=False)
class WorkUnit:
    """Hold an order and its state.

    Attributes:
        order: What to do.
        need: What a worker for it needs.
        rank: Units of a lower one come first.
        causes: Why it failed, each time.
    """

    order: Order
    need: Need
    rank: tuple[int, int]
    causes: list[str] = field(default_factory=list)
    stranded_since: float | None = None

    @property
    def kind(self) -> Kind:
        """Return a worker goes from unit to unit of one kind; for a training it is new, and its memory its own."""
        job = self.order.job
        return self.need, job.model if isinstance(job, TrainingJob) else ""


@dataclass(eq=False)
class _Member:
    process: WorkerProcess
    kind: Kind
    place: str | None = None  # None until it has found one
    model: str | None = None  # in its memory
    unit: WorkUnit | None = None
    stream: Any = None
    asked: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class GivenUp:
    """Report that a unit failed too often."""


class Crew:
    """Manage the workers, and the units that wait for them.

    Args:
        setting: For every worker.
        choices: Where workers agree.

    Attributes:
        stopping: Whether a training that reports an interruption was requested to stop.
    """

    stopping = False

    def __init__(self, setting: WorkerSetting, choices: Any) -> None:
        self._setting, self._choices = setting, choices
        self._waiting: list[WorkUnit] = []
        self._members: list[_Member] = []
        self._nodes, self._nodes_seen = nodes(), time.monotonic()

    def add(self, unit: WorkUnit) -> None:
        """Queue a unit, unless all is being stopped."""
        if self.stopping:
            return
        self._waiting.append(unit)
        self._waiting.sort(key=lambda each: each.rank)

    def drop(self, stage: str) -> None:
        """Drop the units of a stage, also those at work."""
        self._waiting = [unit for unit in self._waiting if unit.order.stage != stage]
        for member in [each for each in self._members if each.unit and each.unit.order.stage == stage]:
            self._dismiss(member)

    def at_work(self) -> list[tuple[Order, str]]:
        """Return what is being done, and where."""
        return [(each.unit.order, each.place or "") for each in self._members if each.unit]

    def step(self, seconds: float) -> Iterator[tuple[WorkUnit, Message | GivenUp]]:
        """Assign work, wait so long for news, and return the messages that have come."""
        self._watch_nodes()
        yield from self._give_up_stranded()
        self._assign()
        self._take_on()
        sources = {id(source): (member, source) for member in self._members for source in [_source(member)] if source}
        if not sources:
            time.sleep(seconds)
            return
        for source in wait([source for _, source in sources.values()], seconds):
            member, _ = sources[id(source)]
            if member not in self._members:  # dismissed for what another reported
                continue
            if member.place is None:
                yield from self._welcome(member)
            else:
                yield from self._listen(member)

    def call_off(self, *, keep: Callable[[Order], bool]) -> None:
        """Drop all that waits, and all that is at work but for what is to be kept."""
        self._waiting = []
        for member in list(self._members):
            if member.unit is None or not keep(member.unit.order):
                self._dismiss(member)

    def _assign(self) -> None:
        """Give idle workers their next unit; those that have none, or keep earlier work of another kind waiting, go."""
        for member in [each for each in self._members if each.place is None]:
            coming = [each for each in self._members if each.place is None and each.kind == member.kind]
            if len(coming) > self._wanted(member.kind):
                self._dismiss(member)
        for member in [each for each in self._members if each.place is not None and each.unit is None]:
            able = [unit for unit in self._waiting if unit.stranded_since is None]
            fitting = [unit for unit in able if unit.kind == member.kind]
            own = min(fitting, key=lambda unit: unit.order.job.model != member.model, default=None)
            if own is not None and not self._urgent(able[0]):
                self._waiting.remove(own)
                member.unit, member.stream = own, member.process.work(own.order)
                member.model = own.order.job.model
            elif able or not any(each.kind == member.kind for each in self._members if each.unit):
                self._dismiss(member)

    def _urgent(self, unit: WorkUnit) -> bool:
        """Whether no worker does a unit's kind of work, and Ray has not found room for one for some time."""
        asked = [each.asked for each in self._members if each.kind == unit.kind and each.place is None]
        working = any(each.kind == unit.kind and each.place is not None for each in self._members)
        return bool(asked) and not working and time.monotonic() - min(asked) > URGENT_SECONDS

    def _take_on(self) -> None:
        """Ask for workers, of the earliest work first, not more at a time than there are machines."""
        coming = [member.kind for member in self._members if member.place is None]
        for unit in self._waiting:
            if len(coming) >= max(1, len(self._nodes)):
                return
            if unit.stranded_since is None and coming.count(unit.kind) < self._wanted(unit.kind):
                process = WorkerProcess(self._setting, unit.need, self._choices)
                self._members.append(_Member(process, unit.kind))
                coming.append(unit.kind)

    def _wanted(self, kind: Kind) -> int:
        return sum(unit.kind == kind for unit in self._waiting)

    def _welcome(self, member: _Member) -> Iterator[tuple[WorkUnit, Message | GivenUp]]:
        try:
            facts, node = member.process.arrived()
            if (problem := misfit(facts, self._setting)) is not None:
                raise Lost(f"machine {facts.host} cannot take part: {problem}")
        except Lost as error:
            self._dismiss(member)
            meant = next((unit for unit in self._waiting if unit.kind == member.kind), None)
            if meant is not None:
                self._waiting.remove(meant)
                yield from self._failed(meant, f"no worker could be started: {error}")
            return
        member.place = next((each.address for each in self._nodes if each.id == node), facts.host)

    def _listen(self, member: _Member) -> Iterator[tuple[WorkUnit, Message | GivenUp]]:
        """The messages that a worker has sent."""
        for _ in range(MESSAGES):
            unit = member.unit
            if unit is None or member not in self._members:
                return
            try:
                message = next_message(member.stream)
            except Lost as error:
                self._dismiss(member)
                yield from self._failed(unit, f"the worker on {member.place} was lost: {error}")
                return
            if isinstance(message, Failed):
                member.unit = member.stream = None
                if not message.sound:
                    self._dismiss(member)  # it may have been left without memory, or half loaded
                if message.interrupted and self.stopping:
                    yield unit, message
                else:
                    yield from self._failed(unit, message.cause)
                return
            if isinstance(message, Done):
                member.unit = member.stream = None
                yield unit, message
                return
            yield unit, message
            if not wait([member.stream], 0.0):
                return

    def _failed(self, unit: WorkUnit, cause: str) -> Iterator[tuple[WorkUnit, Message | GivenUp]]:
        unit.causes.append(cause)
        if len(unit.causes) >= MOST_TRIES:
            yield unit, GivenUp()
        else:
            yield unit, Failed(cause, interrupted=False, sound=True)
            self.add(unit)

    def _dismiss(self, member: _Member) -> None:
        member.process.dismiss()
        self._members.remove(member)

    def _watch_nodes(self) -> None:
        """See which machines there are, and which units fit on none of them."""
        now = time.monotonic()
        if now - self._nodes_seen > NODES_SECONDS:
            self._nodes, self._nodes_seen = nodes(), now
        for unit in self._waiting:
            fits = any(unit.need.times_in(node.resources) for node in self._nodes)
            unit.stranded_since = None if fits else unit.stranded_since or now

    def _give_up_stranded(self) -> Iterator[tuple[WorkUnit, Message | GivenUp]]:
        now = time.monotonic()
        for unit in list(self._waiting):
            if unit.stranded_since is not None and now - unit.stranded_since > STRANDED_SECONDS:
                self._waiting.remove(unit)
                unit.causes.append(f"no machine is left that has room for {unit.need}")
                yield unit, GivenUp()


def _source(member: _Member) -> Any:
    """What the worker's next message comes from; None where it is idle."""
    return member.process.arrival if member.place is None else member.stream
