"""Execute the stages of a run that are not done, one after the other, with a record of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smaug_eval.common.console import Reporter, captured_output
from smaug_eval.common.errors import Incomplete, Interrupted, SmaugError
from smaug_eval.common.files import unwritable, write_failure
from smaug_eval.common.interrupts import Interrupts
from smaug_eval.runs.directory import RunDirectory
from smaug_eval.runs.jobs import Job, TrainingJob, Workplace

LISTED = 20
"""Most stages in a row that are named each where they were done before."""


@dataclass(frozen=True)
class Stage:
    """Describe one step of a run with its own record.

    Attributes:
        name: Also its folder in the run directory.
        inputs: Everything that decides its result, as plain data.
        needs: The stages before it whose results decide its own.
        after: Further stages that must be done before it; they may stop the run, but do not change its result.
        key: Hash of the inputs and the keys of the stages in ``needs``.
        work: Does it, in the stage's folder; returns a summary for the record. A job may be done by another process.
        title: What the user reads while it runs.
        outputs: Files it writes outside its folder, relative to the run directory.
        data_revisions: The Hub's commits of the data sets that it reads itself, by Hub id.
        drafted: Whether it can be done while stages that it needs are incomplete; it then stays open itself.
    """

    name: str
    inputs: Mapping[str, Any]
    needs: tuple[str, ...]
    key: str
    work: Callable[[Path], Mapping[str, Any]] | Job
    title: str
    outputs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    data_revisions: Mapping[str, str] = field(default_factory=dict)
    drafted: bool = False


@dataclass(frozen=True)
class RunContext:
    """Hold what the stages of a run are done with.

    Attributes:
        stages: In an order in which each can be done.
        directory: Of the run.
        reporter: Shows progress.
        interrupts: Of the user and the scheduler.
        place: Where jobs are done.
        take_record: Brings the manifest up to date with the record of the stage named.
        command: The shell command that continues the run.
    """

    stages: Sequence[Stage]
    directory: RunDirectory
    reporter: Reporter
    interrupts: Interrupts
    place: Workplace
    take_record: Callable[[str], None]
    command: str | None


class Execution:
    """Execute the stages of a run in this process.

    Args:
        context: What there is to do, and with what.

    Attributes:
        did: Names of the stages done.
        skipped: Names of the stages that were done before.
        incomplete: By name, the stages of which something is missing, and why.
    """

    def __init__(self, context: RunContext) -> None:
        self.stages, self.directory, self.reporter = context.stages, context.directory, context.reporter
        self.interrupts, self.place, self.command = context.interrupts, context.place, context.command
        self.take_record = context.take_record
        self.did: list[str] = []
        self.skipped: list[str] = []
        self.incomplete: dict[str, Incomplete] = {}
        self._unsaid: list[str] = []
        self._numbers = {stage.name: number for number, stage in enumerate(self.stages, 1)}

    def run(self) -> None:
        """Run the stages that are not done.

        Raises:
            Interrupted: stopped; the same call continues.
            Incomplete: something could not be had, such as a judge's verdicts; all else is done.
            SmaugError: a stage failed for a reason that the user can fix.
        """
        for stage in self.stages:
            if not self.is_held_up(stage) and self.skip(stage):
                continue
            if self.is_held_up(stage) and not stage.drafted:
                continue
            try:
                self._do(stage)
            except Incomplete as error:
                self.leave_open(stage, error)
            except KeyboardInterrupt:
                raise self.interrupted(f"stopped during {stage.title}") from None
            except Interrupted as error:
                raise self.interrupted(error.message) from None
            except SmaugError:
                raise
            except Exception as error:
                self.directory.check_held()
                if (failure := write_failure(error)) is not None:
                    raise unwritable(self.directory.path, failure) from error
                raise
            finally:
                self.take_record(stage.name)
            if self.interrupts.requested() and stage is not self.stages[-1]:
                raise self.interrupted(f"stopped after {stage.title}")
        self.say_skipped()
        self.raise_incomplete()

    def is_held_up(self, stage: Stage) -> bool:
        """Check whether a stage needs one that is incomplete."""
        return not self.incomplete.keys().isdisjoint(stage.needs)

    def leave_open(self, stage: Stage, error: Incomplete) -> None:
        """Continue without what is missing of a stage; the same call requests it again."""
        self.incomplete[stage.name] = error
        self.reporter.warn(f"{self.label(stage)} is incomplete: {error.message}")

    def raise_incomplete(self) -> None:
        """Raise the error that names what is missing in the end.

        Raises:
            Incomplete: something is.
        """
        errors = list(self.incomplete.values())
        if len(errors) == 1:
            raise errors[0]
        if errors:
            lines = [f"{len(errors)} of {len(self.stages)} stages are incomplete:"]
            lines += [f"  {name}: {error.message}" for name, error in self.incomplete.items()]
            fixes = dict.fromkeys(error.fix for error in errors if error.fix)
            raise Incomplete("\n".join(lines), fix="; ".join(fixes) or "run the same command again")

    @contextlib.contextmanager
    def stops_as_interrupted(self) -> Iterator[None]:
        """Report a stop between two stages like one within a stage."""
        try:
            yield
        except KeyboardInterrupt:
            raise self.interrupted("stopped between two stages") from None

    def label(self, stage: Stage) -> str:
        """Return what the user reads of a stage."""
        return f"[{self._numbers[stage.name]}/{len(self.stages)}] {stage.title}"

    def skip(self, stage: Stage) -> bool:
        """Check whether a stage was done before.

        :meth:`say_skipped` then prints so, at the next one that was not.
        """
        state = self.directory.state(stage.name, stage.key, stage.inputs, thorough=True)
        if state.status != "done":
            self.say_skipped()
            if state.status == "damaged":
                self.reporter.warn(f"{stage.title}: {state.reason}; it is done again")
            return False
        self.skipped.append(stage.name)
        self._unsaid.append(self.label(stage))
        return True

    def say_skipped(self) -> None:
        """Print which stages were done before and have not been listed yet."""
        if len(self._unsaid) > LISTED:
            self.reporter.say(f"{len(self._unsaid)} stages were done before")
        else:
            for label in self._unsaid:
                self.reporter.say(f"{label}: done before")
        self._unsaid = []

    def work(self, stage: Stage, folder: Path) -> Mapping[str, Any]:
        """Run the work of a stage here."""
        if not isinstance(stage.work, Job):
            return stage.work(folder)
        if not isinstance(stage.work, TrainingJob):
            return stage.work.perform(folder, self.place)
        with self.interrupts.graceful():
            return stage.work.perform(folder, self.place)

    def finish(self, stage: Stage, seconds: float, summary: Mapping[str, Any]) -> None:
        """Record that a stage is done, and print so."""
        self.directory.finish(stage.name, seconds=seconds, summary=summary, outputs=stage.outputs, needs=stage.needs)
        for warning in summary.get("warnings", []):
            self.reporter.warn(warning)
        self.did.append(stage.name)
        self.reporter.say(f"{self.label(stage)}: {seconds:.1f} s")

    def interrupted(self, message: str) -> Interrupted:
        """Return the error that explains how to resume."""
        return Interrupted(message, fix=f"continue with: {self.command}" if self.command else "call it again to resume")

    def _do(self, stage: Stage) -> None:
        folder = self.directory.begin(stage.name, stage.key, stage.inputs)
        started = time.monotonic()
        with self.reporter.stage(self.label(stage)), captured_output(self.directory.log_file):
            summary = self.work(stage, folder)
        if self.is_held_up(stage):
            self.reporter.say(f"{self.label(stage)}: done with what there is; it stays open")
        else:
            self.finish(stage, time.monotonic() - started, summary)
