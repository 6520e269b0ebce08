"""Doing the stages of a run that are not done, one after the other, with a record of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.console import Reporter, captured_output
from smaug_eval.errors import Interrupted, SmaugError
from smaug_eval.files import unwritable, write_failure
from smaug_eval.interrupts import Interrupts
from smaug_eval.jobs import Job, TrainingJob, Workplace
from smaug_eval.rundir import RunDirectory

LISTED = 20
"""Most stages in a row that are named each where they were done before."""


@dataclass(frozen=True)
class Stage:
    """One step of a run with its own record.

    Attributes:
        name: Also its folder in the run directory.
        inputs: Everything that decides its result, as plain data.
        needs: The stages before it whose results decide its own.
        after: Further stages that must be done before it; they may stop the run, but do not change its result.
        key: Hash of the inputs and the keys of the stages in ``needs``.
        work: Does it, in the stage's folder; returns a summary for the record. A job may be done by another process.
        title: What the user reads while it runs.
        outputs: Files it writes outside its folder, relative to the run directory.
    """

    name: str
    inputs: Mapping[str, Any]
    needs: tuple[str, ...]
    key: str
    work: Callable[[Path], Mapping[str, Any]] | Job
    title: str
    outputs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Execution:
    """The course of a run in this process.

    Args:
        stages: In an order in which each can be done.
        directory: Of the run.
        reporter: Shows progress.
        interrupts: Of the user and the scheduler.
        place: Where jobs are done.
        take_record: Brings the manifest up to date with the record of the stage named.
        command: The shell command that continues the run.

    Attributes:
        did: Names of the stages done.
        skipped: Names of the stages that were done before.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        directory: RunDirectory,
        reporter: Reporter,
        interrupts: Interrupts,
        place: Workplace,
        take_record: Callable[[str], None],
        command: str | None,
    ) -> None:
        self.stages, self.directory, self.reporter, self.interrupts = stages, directory, reporter, interrupts
        self.place, self.take_record, self.command = place, take_record, command
        self.did: list[str] = []
        self.skipped: list[str] = []
        self._unsaid: list[str] = []
        self._numbers = {stage.name: number for number, stage in enumerate(stages, 1)}

    def run(self) -> None:
        """Do what is not done.

        Raises:
            Interrupted: stopped; the same call continues.
            SmaugError: a stage failed for a reason that the user can mend.
        """
        for stage in self.stages:
            if self.skip(stage):
                continue
            try:
                self._do(stage)
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

    @contextlib.contextmanager
    def stops_as_interrupted(self) -> Iterator[None]:
        """A stop between two stages is told like one within a stage."""
        try:
            yield
        except KeyboardInterrupt:
            raise self.interrupted("stopped between two stages") from None

    def label(self, stage: Stage) -> str:
        """What the user reads of a stage."""
        return f"[{self._numbers[stage.name]}/{len(self.stages)}] {stage.title}"

    def skip(self, stage: Stage) -> bool:
        """Whether a stage was done before; :meth:`say_skipped` then says so, at the next one that was not."""
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
        """Say what was done before and has not been said yet."""
        if len(self._unsaid) > LISTED:
            self.reporter.say(f"{len(self._unsaid)} stages were done before")
        else:
            for label in self._unsaid:
                self.reporter.say(f"{label}: done before")
        self._unsaid = []

    def work(self, stage: Stage, folder: Path) -> Mapping[str, Any]:
        """Do the work of a stage here."""
        if not isinstance(stage.work, Job):
            return stage.work(folder)
        if not isinstance(stage.work, TrainingJob):
            return stage.work.perform(folder, self.place)
        with self.interrupts.graceful():
            return stage.work.perform(folder, self.place)

    def finish(self, stage: Stage, seconds: float, summary: Mapping[str, Any]) -> None:
        """Record that a stage is done, and say so."""
        self.directory.finish(stage.name, seconds=seconds, summary=summary, outputs=stage.outputs, needs=stage.needs)
        for warning in summary.get("warnings", []):
            self.reporter.warn(warning)
        self.did.append(stage.name)
        self.reporter.say(f"{self.label(stage)}: {seconds:.1f} s")

    def interrupted(self, message: str) -> Interrupted:
        """The error that says how to go on."""
        return Interrupted(message, fix=f"continue with: {self.command}" if self.command else "call it again to go on")

    def _do(self, stage: Stage) -> None:
        folder = self.directory.begin(stage.name, stage.key, stage.inputs)
        started = time.monotonic()
        with self.reporter.stage(self.label(stage)), captured_output(self.directory.log_file):
            summary = self.work(stage, folder)
        self.finish(stage, time.monotonic() - started, summary)
