"""Bind a recipe to a runs directory: list its stages, find those that are done, and do the rest.

recipe -> pairs -> search for test documents in them -> trainings -> evaluations of the base and every trained model
-> report
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smaug_eval.common.console import Reporter
from smaug_eval.common.errors import Incomplete
from smaug_eval.common.interrupts import Interrupts
from smaug_eval.engines.pool import EnginePool
from smaug_eval.mt_bench.files.layout import answers_stage
from smaug_eval.results.layout import REPORT_FILE
from smaug_eval.runs.checks import check_engines, check_given, check_judges, check_scoring, check_trainings
from smaug_eval.runs.directory import RunDirectory, StageState
from smaug_eval.runs.execution import Execution, RunContext, Stage
from smaug_eval.runs.jobs import Workplace
from smaug_eval.runs.manifest import ManifestWriter
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.prompts import check_chat_templates, prompt_warnings
from smaug_eval.runs.recipe import Recipe
from smaug_eval.runs.stages.builder import StageBuilder
from smaug_eval.trainers.launch import refuse_foreign_launch

if TYPE_CHECKING:
    from smaug_eval.runs.cluster.options import ClusterOptions

DEFAULT_RUNS = Path("runs")


@dataclass(frozen=True)
class RunResult:
    """Hold what a run left.

    Attributes:
        path: The run directory.
        report: The HTML report.
        did: Names of the stages done this time.
        skipped: Names of the stages that were done already.
        incomplete: Names of the stages of which something is missing; the same call asks for it.
    """

    path: Path
    report: Path
    did: tuple[str, ...]
    skipped: tuple[str, ...]
    incomplete: tuple[str, ...] = ()


@dataclass
class Pipeline:
    """Bind a recipe to a runs directory; making one checks all that can be checked before work starts.

    Attributes:
        recipe: What to do.
        runs: Where run directories are.
        reporter: Shows progress.
        command: The shell command that led here, for the manifest and for the advice on how to continue.

    Raises:
        SmaugError: a model, a pair file, a suite, a task or a data file named by the recipe is not there.
    """

    recipe: Recipe
    runs: Path
    reporter: Reporter
    command: str | None = None

    def __post_init__(self) -> None:
        self.directory = RunDirectory(self.runs / self.recipe.name)
        self._interrupts = Interrupts(self.reporter.warn)
        self._engines = EnginePool()
        created = self.directory.created()
        self._models = RunModels.find(self.recipe, self.directory)
        built = StageBuilder(
            self._models,
            self.reporter,
            created=created,
            engines=self._engines,
            write_manifest=lambda: self._manifest.write(),
        )
        self.stages: list[Stage] = built.stages
        self._judges, self._dialogues = built.judges, built.dialogues
        self._warnings = [*prompt_warnings(self._models), *self._models.warnings(), *built.warnings()]
        self._manifest = ManifestWriter(
            self._models, self.stages, created, self.command, self._warnings, built.conversations()
        )

    def states(self) -> list[tuple[Stage, StageState]]:
        """Return every stage in order, with its state."""
        return [(stage, self.directory.state(stage.name, stage.key, stage.inputs)) for stage in self.stages]

    def requests(self) -> dict[str, str]:
        """Return, by stage, what is left to ask served models in dialogues: requests, tokens, and cost."""
        left = {stage.name for stage, state in self.states() if state.status != "done"}
        return {
            stage: answering.forecast(self.directory.folder(stage), model, self._models.given[model])
            for name, own in self._dialogues.items()
            for model, answering in own.items()
            if answering.is_served and (stage := answers_stage(name, model)) in left
        }

    def run(self, cluster: ClusterOptions | None = None) -> RunResult:
        """Do the stages that are not done.

        Args:
            cluster: The Ray cluster to do them on; None for this process alone.

        Raises:
            Interrupted: stopped by the user or the scheduler; the same call continues.
            Incomplete: something could not be had, such as a judge's verdicts; all else is done, the report included,
                and the error's ``result`` is the :class:`RunResult`.
            SmaugError: a stage failed for a reason the user can mend, or another's launcher started several of us;
                what is done stays.
        """
        refuse_foreign_launch()
        execution = self._execution(cluster)
        with (
            execution.stops_as_interrupted(),
            self.directory.locked(self.reporter.warn),
            self._interrupts.installed(),
            contextlib.closing(self._engines),
        ):
            self._check(devices=cluster is None)
            self._manifest.write()
            try:
                execution.run()
            except Incomplete as error:
                error.result = self._result(execution)
                raise
        return self._result(execution)

    def _execution(self, cluster: ClusterOptions | None) -> Execution:
        context = RunContext(
            stages=self.stages,
            directory=self.directory,
            reporter=self.reporter,
            interrupts=self._interrupts,
            place=Workplace(self._engines, self.reporter, self._interrupts.requested),
            take_record=self._manifest.take_record,
            command=self.command,
        )
        if cluster is None:
            return Execution(context)
        from smaug_eval.runs.cluster.execution import ClusterExecution  # with Ray

        return ClusterExecution(context, cluster)

    def _check(self, *, devices: bool) -> None:
        """Make sure, before anything runs, of what it needs, and say what a reader of the numbers should know."""
        left = [stage.name for stage, state in self.states() if state.status != "done"]
        check_judges(self._judges, left)
        check_engines(self.recipe, left, devices=devices)
        if devices:
            check_trainings(self.recipe, left)
        check_scoring(self._models, left)
        check_chat_templates(self._models)
        for warning in self._warnings:
            self.reporter.warn(warning)
        check_given(self._models, left)
        for warning in self._manifest.read_records():
            self.reporter.warn(warning)

    def _result(self, execution: Execution) -> RunResult:
        done = tuple(execution.did), tuple(execution.skipped), tuple(execution.incomplete)
        return RunResult(self.directory.path, self.directory.path / REPORT_FILE, *done)
