"""Execute a run on a cluster.

Two threads of the driver share the work: one talks to Ray, starts what can be started and keeps the records and the
journal; the main one, which is where signals arrive, does what is not for workers: pairs, judging, the report.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.console import captured_output
from smaug_eval.common.errors import Incomplete, SmaugError
from smaug_eval.common.files import canonical_json, unwritable, write_failure, write_text
from smaug_eval.engines.journal import Journal
from smaug_eval.engines.shares import Credit, Share
from smaug_eval.results.layout import JOURNAL, RECORD
from smaug_eval.runs.checkpoint_jobs import CheckpointsJob
from smaug_eval.runs.cluster.crew import MOST_TRIES, Crew, GivenUp, WorkUnit
from smaug_eval.runs.cluster.messages import Answered, Done, Failed, Message, Opened, Order, Progress, Said, Settled
from smaug_eval.runs.cluster.needs import Machines, Need, need_of, weights_bytes
from smaug_eval.runs.cluster.options import ClusterOptions
from smaug_eval.runs.cluster.probe import SENT, Facts, WorkerSetting, misfit
from smaug_eval.runs.cluster.ray_library import Node, joined, look_at, make_choices, nodes
from smaug_eval.runs.cluster.worker import sizes
from smaug_eval.runs.deciding import DecisionJob, Rounds, RoundShare
from smaug_eval.runs.execution import Execution, RunContext, Stage
from smaug_eval.runs.jobs import EvaluationJob, Job, TrainingJob

STEP_SECONDS = 0.5
SEEN_SECONDS = 120.0
"""For files that a worker wrote to be there for the driver: a shared disk may show them late."""
PARTS = 100
"""Of each stage, in the progress of all."""
FOLDER = ".cluster"
LOGS = "logs"


@dataclass(eq=False)
class _StageCourse:
    """How a stage that is under way fares."""

    stage: Stage
    folder: Path
    started: float
    shares_left: int = 0
    journals: dict[WorkUnit, Journal] = field(default_factory=dict)  # workers may have several models at once
    brought: set[str] = field(default_factory=set)
    computed: int = 0
    total: int = 0
    known: int = 0  # requests that were answered before
    part: float = 0.0
    beside: int | None = None  # the checkpoint that is scored while its training goes on
    rounds: Rounds | None = None  # of a comparison that stops
    parts: list[tuple[RoundShare, Mapping[str, Any] | None]] = field(default_factory=list)  # of the present round

    def advance(self, message: Progress) -> None:
        """Take in how far a worker is; of a divided stage the answers that came are counted, of rounds the looks."""
        if self.rounds is not None:
            return
        if not self.total:
            self.total, self.known = message.total, message.done if self.shares_left else 0
        done = self.known + len(self.brought) if self.shares_left else message.done
        self.part = min(1.0, done / max(1, message.total * self._rounds if self.shares_left else message.total))

    @property
    def _rounds(self) -> int:
        """How often a divided stage asks each question."""
        decoding = getattr(self.stage.work, "decoding", None)
        return 1 if decoding is None else int(decoding.repeats)


class ClusterExecution(Execution):
    """Execute a run on a Ray cluster; attributes as of :class:`Execution`.

    Args:
        context: What there is to do, and with what.
        options: Of the cluster.
    """

    def __init__(self, context: RunContext, options: ClusterOptions) -> None:
        super().__init__(context)
        self._options = options
        self._by_name = {stage.name: stage for stage in self.stages}
        self._courses: dict[str, _StageCourse] = {}
        self._finished: set[str] = set()
        self._failures: dict[str, str] = {}
        self._drafts: set[str] = set()
        self._scored_beside: set[tuple[str, int]] = set()
        self._journals: dict[str, Journal] = {}
        self._here: queue.Queue[_StageCourse | None] = queue.Queue()
        self._done_here: queue.Queue[tuple[_StageCourse, Mapping[str, Any] | SmaugError]] = queue.Queue()
        self._stop, self._abandon = threading.Event(), threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run the stages that are not done.

        Raises:
            Interrupted: stopped; the same call continues, with or without a cluster.
            Incomplete: something could not be had, such as a judge's verdicts; all else is done.
            SmaugError: the cluster cannot be used, or stages failed; all that could be done without them is done.
        """
        left: list[Stage] = []
        for stage in self.stages:
            # What shows what there is, such as the report, is made again where a stage before it is open again.
            is_behind = stage.drafted and any(other.name in stage.needs for other in left)
            if is_behind or not self.skip(stage):
                left.append(stage)
        self.say_skipped()
        self._finished = set(self.skipped)
        if not left:
            return
        try:
            self._run_on_cluster(left)
        except KeyboardInterrupt:
            raise self.interrupted("stopped before the cluster was ready") from None
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            raise self.interrupted(f"stopped with {len(self._finished)} of {len(self.stages)} stages done")
        if self._failures:
            raise self._failed_stages()
        self.raise_incomplete()

    def _run_on_cluster(self, left: list[Stage]) -> None:
        with (
            self.reporter.overall("on the cluster"),
            captured_output(self.directory.log_file),
            self._exchange() as setting,
            joined(self._options),
        ):
            self._prepare(left, setting)
            scheduling = threading.Thread(target=self._schedule, name="cluster", daemon=True)
            scheduling.start()
            try:
                self._work_here()
            except KeyboardInterrupt:
                self._halt(scheduling)
            scheduling.join()

    # Beginning

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[WorkerSetting]:
        """Files in the run directory that workers read, for the time of the run."""
        import torch

        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        folder = self.directory.path / FOLDER
        probe, stop = folder / f"{name}.probe", folder / f"{name}.stop"
        for old in folder.glob("*"):  # of a driver that was killed
            old.unlink(missing_ok=True)
        token = secrets.token_hex(16)
        write_text(probe, token)
        environment = {variable: os.environ.get(variable) for variable in SENT}
        try:
            yield WorkerSetting(str(Path.cwd()), environment, probe, token, stop, torch.get_num_threads())
        finally:
            for file in (probe, stop):
                file.unlink(missing_ok=True)

    def _prepare(self, left: list[Stage], setting: WorkerSetting) -> None:
        """Look at the cluster, and make sure that there is room for every job.

        Raises:
            SmaugError: a machine does not fit the driver, or there is no room for a job.
        """
        self._setting = setting
        machines = [node for node in nodes() if node.works]
        if not machines:
            raise SmaugError("--ray: no machine of the cluster has CPU cores", fix="start some with: ray start")
        facts = look_at(machines, setting)
        for node, found in zip(machines, facts, strict=True):
            if (problem := misfit(found, setting)) is not None:
                raise SmaugError(
                    f"--ray: machine {node.address} cannot take part: {problem}",
                    fix="all machines need the same installation and the same paths",
                )
        kinds = sorted({gpu for found in facts for gpu in found.gpus})
        if len(kinds) > 1:
            self.reporter.warn(f"the cluster has GPUs of several kinds ({', '.join(kinds)}), which round differently")
        self._needs = self._needs_of(left, machines, facts)
        self._shares = {name: self._options.shares or _room(need, machines) for name, need in self._needs.items()}
        self._crew = Crew(setting, make_choices())
        cores = sum(int(node.resources.get("CPU", 0)) for node in machines)
        gpus = sum(int(node.resources.get("GPU", 0)) for node in machines)
        self.reporter.say(f"cluster: {len(machines)} machines, {cores} cores, {gpus} GPUs")

    def _needs_of(self, left: list[Stage], machines: list[Node], facts: list[Facts]) -> dict[str, Need]:
        jobs = {stage.name: stage.work for stage in left if isinstance(stage.work, Job)}
        size = Machines(
            cpus=max(node.resources.get("CPU", 0) for node in machines),
            gpus=int(max(node.resources.get("GPU", 0) for node in machines)),
            gpu_bytes=min((found.gpu_bytes for found in facts if found.gpus), default=0),
            threads=self._setting.threads,
        )
        weights = weights_bytes([stage.work for stage in self.stages if isinstance(stage.work, Job)])
        needs = {name: need_of(name, job, size, weights) for name, job in jobs.items()}
        for name, need in needs.items():
            if not any(need.times_in(node.resources) for node in machines):
                raise SmaugError(
                    f"{name} needs {need} of one machine, and no machine of the cluster has them",
                    fix="add such a machine, or make do with fewer GPUs (engine_args, launch)",
                )
        return needs

    # The main thread

    def _work_here(self) -> None:
        """Do what is not for workers, until all is done."""
        while True:
            try:
                course = self._here.get(timeout=STEP_SECONDS)
            except queue.Empty:
                continue
            if course is None:
                return
            try:
                self._done_here.put((course, self.work(course.stage, course.folder)))
            except SmaugError as error:
                self._done_here.put((course, error))

    def _halt(self, scheduling: threading.Thread) -> None:
        """Stop on request: trainings write a checkpoint first, unless the request is repeated."""
        self.reporter.warn("stopping; trainings write a checkpoint first; once more stops at once")
        self._stop.set()
        try:
            while scheduling.is_alive():
                scheduling.join(STEP_SECONDS)
        except KeyboardInterrupt:
            self._abandon.set()

    # The other thread

    def _schedule(self) -> None:
        try:
            while not self._stop.is_set() and self._start_ready():
                self._take_news()
                self._show()
            if self._stop.is_set():
                self._wind_up()
        except BaseException as error:  # for the main thread to raise
            failure = None if isinstance(error, SmaugError) else write_failure(error)
            self._error = error if failure is None else unwritable(self.directory.path, failure)
        finally:
            self._crew.call_off(keep=lambda order: False)
            for journal in self._journals.values():
                journal.close()
            self._here.put(None)

    def _take_news(self) -> None:
        for unit, message in self._crew.step(STEP_SECONDS):
            if unit.order.stage in self._courses:
                self._take(self._courses[unit.order.stage], unit, message)
        with contextlib.suppress(queue.Empty):
            while True:
                course, outcome = self._done_here.get_nowait()
                if isinstance(outcome, Incomplete):
                    self._leave_open(course, outcome)
                elif isinstance(outcome, SmaugError):
                    self._fail(course, str(outcome))
                else:
                    self._complete(course, outcome)

    def _wind_up(self) -> None:
        """Let trainings stop with a checkpoint, and the rest at once."""
        write_text(self._setting.stop, "")
        self._crew.stopping = True
        self._crew.call_off(keep=lambda order: isinstance(order.job, TrainingJob))
        while self._crew.at_work() and not self._abandon.is_set():
            self._take_news()

    def _start_ready(self) -> bool:
        """Start the stages whose time has come; whether there is anything left to wait for."""
        for stage in self.stages:
            known = (self._finished, self._courses, self._failures, self.incomplete, self._drafts)
            if any(stage.name in each for each in known):
                continue
            before = {*stage.needs, *stage.after}
            if before <= self._finished | (self.incomplete.keys() if stage.drafted else set()):
                self._start(stage)
            elif isinstance(stage.work, CheckpointsJob):
                self._start_beside(stage, stage.work)
        return bool(self._courses)

    def _start_beside(self, stage: Stage, job: CheckpointsJob) -> None:
        """Score the next checkpoint that a training which goes on has kept, if there is room; one at a time."""
        waited_for = {*stage.needs, *stage.after} - self._finished
        if not all(isinstance(self._by_name[name].work, TrainingJob) and name in self._courses for name in waited_for):
            return
        step = next((step for step in job.ready() if (stage.name, step) not in self._scored_beside), None)
        if step is None:
            return
        self._scored_beside.add((stage.name, step))
        folder = self.directory.begin(stage.name, stage.key, stage.inputs)
        self._courses[stage.name] = _StageCourse(stage, folder, time.monotonic(), beside=step)
        log = self.directory.path / LOGS / f"{stage.name}.step-{step}.log"
        order = Order(stage.name, folder, replace(job, only=step), log)
        self._crew.add(WorkUnit(order, self._needs[stage.name], (self._numbers[stage.name], 0)))

    def _start(self, stage: Stage) -> None:
        folder = self.directory.begin(stage.name, stage.key, stage.inputs)
        course = self._courses[stage.name] = _StageCourse(stage, folder, time.monotonic())
        if not isinstance(stage.work, Job):
            self._here.put(course)
            return
        if isinstance(stage.work, DecisionJob):
            course.rounds = Rounds(stage.work)
            self._order_round(course, course.rounds)
            return
        divisible = isinstance(stage.work, EvaluationJob) and stage.work.divisible
        course.shares_left = self._shares[stage.name] if divisible else 1
        if course.shares_left == 1:
            course.shares_left = 0
            self._order(course)
        else:
            for number in range(course.shares_left):
                self._order(course, Share(number, course.shares_left))

    def _order_round(self, course: _StageCourse, rounds: Rounds) -> None:
        """Divide a round of a comparison that stops among the workers; the looks are done here."""
        name = course.stage.name
        parts = [part for ask in rounds.wanted() for part in ask.divided(self._shares[name])]
        course.parts = [(part, None) for part in parts]
        for number, part in enumerate(parts):
            log = self.directory.path / LOGS / f"{name}.{number + 1}-of-{len(parts)}.log"
            order = Order(name, course.folder, part, log)
            self._crew.add(WorkUnit(order, self._needs[name], (self._numbers[name], number)))

    def _take_part(self, course: _StageCourse, rounds: Rounds, done: Job, summary: Mapping[str, Any]) -> None:
        """Take a part of a round; with the last one look, and go on or end."""
        course.parts = [(part, summary if part is done else found) for part, found in course.parts]
        if any(found is None for _, found in course.parts):
            return
        asks: dict[tuple[str, str], RoundShare] = {}
        shares: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for part, found in course.parts:
            key = (part.name, part.column.title)
            asks[key] = part
            shares.setdefault(key, []).append(found or {})
        try:
            for key, part in asks.items():
                rounds.take(part, shares[key])
            for line in rounds.look():
                self.reporter.say(f"  {line}")
            course.part = rounds.part
            if rounds.is_open:
                self._order_round(course, rounds)
            else:
                self._complete(course, rounds.finish(course.folder))
        except SmaugError as error:
            self._fail(course, str(error))

    def _order(self, course: _StageCourse, share: Share | None = None) -> None:
        stage = course.stage
        assert isinstance(stage.work, Job)  # noqa: S101
        name = stage.name if share is None else f"{stage.name}.{share.number + 1}-of-{share.of}"
        log = self.directory.path / LOGS / f"{name}.log"
        credit = Credit(frozenset(course.brought), course.computed) if share is None and course.brought else None
        order = Order(stage.name, course.folder, stage.work, log, share, credit)
        # What ends a stage comes before what begins another.
        rank = (self._numbers[stage.name], -1 if share is None else share.number)
        self._crew.add(WorkUnit(order, self._needs[stage.name], rank))

    def _take(self, course: _StageCourse, unit: WorkUnit, message: Message | GivenUp) -> None:
        """One message of a worker."""
        match message:
            case Opened(scope):
                course.journals[unit] = self._journal(scope)
            case Answered(answers, computed) if unit in course.journals:
                course.journals[unit].add(answers)
                course.brought.update(answers)
                course.computed += computed
            case Settled(name, value) if unit in course.journals:
                course.journals[unit].note(name, value)
            case Progress():
                course.advance(message)
            case Said(text, warning):
                (self.reporter.warn if warning else self.reporter.say)(f"  {unit.order.title}: {text}")
            case Done(summary, files):
                self._unit_done(course, unit, summary, files)
            case Failed(cause, interrupted=interrupted):
                if not interrupted:
                    self.reporter.warn(f"{unit.order.title}: {_first_line(cause)}; trying again")
            case GivenUp() if course.beside is not None:  # it is tried again once the training is done
                del self._courses[course.stage.name]
            case GivenUp():
                times = f"failed {MOST_TRIES} times" if len(unit.causes) >= MOST_TRIES else "given up"
                self._fail(course, f"{unit.order.title} {times}: {unit.causes[-1]}\n    see {unit.order.log}")

    def _journal(self, scope: Mapping[str, Any]) -> Journal:
        name = canonical_json(scope)
        if name not in self._journals:
            self._journals[name] = Journal(self.directory.path / JOURNAL, scope)
        return self._journals[name]

    def _unit_done(
        self, course: _StageCourse, unit: WorkUnit, summary: Mapping[str, Any], files: Mapping[str, int]
    ) -> None:
        if course.beside is not None:
            del self._courses[course.stage.name]
            return
        if course.rounds is not None and isinstance(unit.order.job, RoundShare):
            self._take_part(course, course.rounds, unit.order.job, summary)
            return
        if unit.order.share is not None:
            course.shares_left -= 1
            if not course.shares_left:
                self._order(course)
            return
        _wait_for(course.folder, files)
        self._complete(course, summary)

    def _complete(self, course: _StageCourse, summary: Mapping[str, Any]) -> None:
        del self._courses[course.stage.name]
        if self.is_held_up(course.stage):
            self._drafts.add(course.stage.name)
            self.reporter.say(f"{self.label(course.stage)}: done with what there is; it stays open")
            return
        self._finished.add(course.stage.name)
        self.finish(course.stage, time.monotonic() - course.started, summary)
        self.take_record(course.stage.name)

    def _leave_open(self, course: _StageCourse, error: Incomplete) -> None:
        del self._courses[course.stage.name]
        self.leave_open(course.stage, error)
        self.take_record(course.stage.name)

    def _fail(self, course: _StageCourse, cause: str) -> None:
        name = course.stage.name
        del self._courses[name]
        self._failures[name] = cause
        self._crew.drop(name)
        self.take_record(name)
        self.reporter.warn(f"{self.label(course.stage)} failed: {_first_line(cause)}")

    def _failed_stages(self) -> SmaugError:
        lines = [f"{len(self._failures)} of {len(self.stages)} stages failed:"]
        lines += [f"  {name}: {cause}" for name, cause in self._failures.items()]
        behind = [stage.name for stage in self.stages if stage.name not in self._finished | self._failures.keys()]
        if behind:
            lines.append(f"  not begun, as they need them: {', '.join(behind)}")
        go_on = f"continue with: {self.command}" if self.command else "call it again"
        return SmaugError("\n".join(lines), fix=f"remove the causes, then {go_on}; all else is done and stays")

    def _show(self) -> None:
        """One line over all: how far, and who does what."""
        left = [stage for stage in self.stages if stage.name not in self.skipped]
        parts = sum(course.part for course in self._courses.values())
        parts += sum(stage.name in self._finished for stage in left)
        busy = self._crew.at_work()
        tasks = "; ".join(f"{order.title} on {place}" for order, place in busy[:3])
        more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
        self.reporter.update_overall(int(parts * PARTS), len(left) * PARTS, f"{tasks}{more}")


def _room(need: Need, machines: list[Node]) -> int:
    return max(1, sum(need.times_in(node.resources) for node in machines))


def _wait_for(folder: Path, files: Mapping[str, int]) -> None:
    """Wait until the files that a worker wrote are there.

    Raises:
        SmaugError: they are not after some time.
    """
    wanted = {name: size for name, size in files.items() if name != RECORD}
    deadline = time.monotonic() + SEEN_SECONDS
    while not wanted.items() <= sizes(folder).items():
        if time.monotonic() > deadline:
            raise SmaugError(f"{folder}: what a worker wrote there is not to be seen", fix="look at the shared disk")
        time.sleep(STEP_SECONDS)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
