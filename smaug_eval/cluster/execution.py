"""The course of a run on a cluster.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smaug_eval.cluster.crew import MOST_TRIES, Crew, GivenUp, Unit
from smaug_eval.cluster.messages import Answered, Done, Failed, Message, Opened, Order, Progress, Said, Settled
from smaug_eval.cluster.needs import Machines, Need, need_of, weights_bytes
from smaug_eval.cluster.options import ClusterOptions
from smaug_eval.cluster.probe import SENT, Facts, Setting, misfit
from smaug_eval.cluster.ray_library import Node, joined, look_at, make_choices, nodes
from smaug_eval.cluster.worker import sizes
from smaug_eval.console import captured_output
from smaug_eval.engines.journal import Journal
from smaug_eval.engines.shares import Credit, Share
from smaug_eval.errors import SmaugError
from smaug_eval.execution import Execution, Stage
from smaug_eval.files import canonical_json, unwritable, write_failure, write_text
from smaug_eval.jobs import EvaluationJob, Job, TrainingJob
from smaug_eval.rundir import JOURNAL, RECORD

STEP_SECONDS = 0.5
SEEN_SECONDS = 120.0
"""For files that a worker wrote to be there for the driver: a shared disk may be slow to tell."""
PARTS = 100
"""Of each stage, in the progress of all."""
FOLDER = ".cluster"
LOGS = "logs"


@dataclass(eq=False)
class _Course:
    """How a stage that is under way fares."""

    stage: Stage
    folder: Path
    started: float
    shares_left: int = 0
    journal: Journal | None = None
    brought: set[str] = field(default_factory=set)
    computed: int = 0
    total: int = 0
    known: int = 0  # requests that were answered before
    part: float = 0.0

    def advance(self, message: Progress) -> None:
        """Take in how far a worker is; of a divided stage the answers that came are counted."""
        if not self.total:
            self.total, self.known = message.total, message.done if self.shares_left else 0
        done = self.known + len(self.brought) if self.shares_left else message.done
        self.part = min(1.0, done / max(1, message.total))


class ClusterExecution(Execution):
    """The course of a run on a Ray cluster; arguments and attributes as of :class:`Execution`.

    Args:
        options: Of the cluster.
    """

    def __init__(self, *parts: Any, options: ClusterOptions) -> None:
        super().__init__(*parts)
        self._options = options
        self._by_name = {stage.name: stage for stage in self.stages}
        self._courses: dict[str, _Course] = {}
        self._finished: set[str] = set()
        self._failures: dict[str, str] = {}
        self._journals: dict[str, Journal] = {}
        self._here: queue.Queue[_Course | None] = queue.Queue()
        self._done_here: queue.Queue[tuple[_Course, Mapping[str, Any] | SmaugError]] = queue.Queue()
        self._stop, self._abandon = threading.Event(), threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do what is not done.

        Raises:
            Interrupted: stopped; the same call continues, with or without a cluster.
            SmaugError: the cluster cannot be used, or stages failed; all that could be done without them is done.
        """
        left = [stage for stage in self.stages if not self.skip(stage)]
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
    def _exchange(self) -> Iterator[Setting]:
        """Files in the run directory that tell workers something, for the time of the run."""
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
            yield Setting(str(Path.cwd()), environment, probe, token, stop, torch.get_num_threads())
        finally:
            for file in (probe, stop):
                file.unlink(missing_ok=True)

    def _prepare(self, left: list[Stage], setting: Setting) -> None:
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
                if isinstance(outcome, SmaugError):
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
            if stage.name in self._finished or stage.name in self._courses or stage.name in self._failures:
                continue
            before = {*stage.needs, *stage.after}
            if before <= self._finished:
                self._start(stage)
        return bool(self._courses)

    def _start(self, stage: Stage) -> None:
        folder = self.directory.begin(stage.name, stage.key, stage.inputs)
        course = self._courses[stage.name] = _Course(stage, folder, time.monotonic())
        if not isinstance(stage.work, Job):
            self._here.put(course)
            return
        divisible = isinstance(stage.work, EvaluationJob) and stage.work.divisible
        course.shares_left = self._shares[stage.name] if divisible else 1
        if course.shares_left == 1:
            course.shares_left = 0
            self._order(course)
        else:
            for number in range(course.shares_left):
                self._order(course, Share(number, course.shares_left))

    def _order(self, course: _Course, share: Share | None = None) -> None:
        stage = course.stage
        assert isinstance(stage.work, Job)  # noqa: S101
        name = stage.name if share is None else f"{stage.name}.{share.number + 1}-of-{share.of}"
        log = self.directory.path / LOGS / f"{name}.log"
        credit = Credit(frozenset(course.brought), course.computed) if share is None and course.brought else None
        order = Order(stage.name, course.folder, stage.work, log, share, credit)
        # What ends a stage comes before what begins another.
        rank = (self._numbers[stage.name], -1 if share is None else share.number)
        self._crew.add(Unit(order, self._needs[stage.name], rank))

    def _take(self, course: _Course, unit: Unit, message: Message | GivenUp) -> None:
        """One message of a worker."""
        match message:
            case Opened(scope):
                course.journal = self._journal(scope)
            case Answered(answers, computed) if course.journal is not None:
                course.journal.add(answers)
                course.brought.update(answers)
                course.computed += computed
            case Settled(name, value) if course.journal is not None:
                course.journal.note(name, value)
            case Progress():
                course.advance(message)
            case Said(text, warning):
                (self.reporter.warn if warning else self.reporter.say)(f"  {unit.order.title}: {text}")
            case Done(summary, files):
                self._unit_done(course, unit, summary, files)
            case Failed(cause, interrupted=interrupted):
                if not interrupted:
                    self.reporter.warn(f"{unit.order.title}: {_first_line(cause)}; trying again")
            case GivenUp():
                times = f"failed {MOST_TRIES} times" if len(unit.causes) >= MOST_TRIES else "given up"
                self._fail(course, f"{unit.order.title} {times}: {unit.causes[-1]}\n    see {unit.order.log}")

    def _journal(self, scope: Mapping[str, Any]) -> Journal:
        name = canonical_json(scope)
        if name not in self._journals:
            self._journals[name] = Journal(self.directory.path / JOURNAL, scope)
        return self._journals[name]

    def _unit_done(self, course: _Course, unit: Unit, summary: Mapping[str, Any], files: Mapping[str, int]) -> None:
        if unit.order.share is not None:
            course.shares_left -= 1
            if not course.shares_left:
                self._order(course)
            return
        _wait_for(course.folder, files)
        self._complete(course, summary)

    def _complete(self, course: _Course, summary: Mapping[str, Any]) -> None:
        del self._courses[course.stage.name]
        self._finished.add(course.stage.name)
        self.finish(course.stage, time.monotonic() - course.started, summary)
        self.take_record(course.stage.name)

    def _fail(self, course: _Course, cause: str) -> None:
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
        return SmaugError("\n".join(lines), fix=f"mend the causes, then {go_on}; all else is done and stays")

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
