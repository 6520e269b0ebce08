"""From a recipe to a run: which stages there are, which are done, and doing the rest.

recipe -> pairs -> search for test documents in them -> trainings -> evaluations of the base and every trained model
-> report
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from smaug_eval import rundir
from smaug_eval.console import Reporter
from smaug_eval.digests import sha256_of_file
from smaug_eval.engines.build import VLLM_ENGINES, check_device, check_engine_args, choose_engine
from smaug_eval.errors import SmaugError
from smaug_eval.evaluation import EnginePool, data_fingerprints, short_name
from smaug_eval.execution import Execution, Stage
from smaug_eval.files import write_json
from smaug_eval.interrupts import Interrupts
from smaug_eval.jobs import AnswersJob, EvaluationJob, Job, TrainingJob, Workplace
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite import Column, Suite
from smaug_eval.leaks import check_pairs, known_tasks
from smaug_eval.models import locate
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.mt_bench.layout import answers_file, answers_stage, judgments_stage
from smaug_eval.mt_bench.stage import Answering, Judging, Task
from smaug_eval.own_code import trust_warning
from smaug_eval.recipe import BASE, EvaluationConfig, Recipe, recipe_as_dict
from smaug_eval.redaction import redacted_values
from smaug_eval.rundir import RunDirectory, StageState, stage_key
from trainers.config import LaunchConfig, MixturePairs, SourcedPairs
from trainers.launch import TrainingSpec, process_number
from trainers.pairs.read import source_files
from trainers.pairs.sources import locations

if TYPE_CHECKING:
    from smaug_eval.cluster.options import ClusterOptions

REPORT_FILE = "report.html"
TRAINING_DTYPES = ("float32", "bfloat16")
DEFAULT_RUNS = Path("runs")


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        path: The run directory.
        report: The HTML report.
        did: Names of the stages done this time.
        skipped: Names of the stages that were done already.
    """

    path: Path
    report: Path
    did: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass
class Pipeline:
    """A recipe bound to a runs directory. Making one checks everything that can be checked before work starts.

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
        self._records: dict[str, dict[str, Any]] = {}
        self._grid = list(self.recipe.study.trainings()) if self.recipe.study is not None else []
        self._data_root = Path(self.recipe.data_root) if self.recipe.data_root else None
        self._trusted = self.recipe.model.trust_remote_code
        self._base = locate(
            self.recipe.model.path, revision=self.recipe.model.revision, trust_remote_code=self._trusted
        )
        self.stages: list[Stage] = []
        # A mixture comes after the sets it draws from.
        for name in sorted(self.recipe.pairs, key=lambda name: self.recipe.pairs[name].source == "mixture"):
            self._add_pairs(name)
        for pair_set in self.recipe.pairs:
            self._add_leaks(pair_set)
        self._dialogues = {name: self._answering(name) for name in self.recipe.mt_bench}
        for number, trainings in enumerate(self.recipe.rounds()):
            for name in trainings:
                self._add_training(name)
            for model in (*trainings,) if number else (BASE, *trainings):  # in turn, so that each is loaded once
                self._add_measurements(model)
        self._judges: dict[str, Judging] = {}
        for name in self.recipe.mt_bench:
            self._add_judgments(name)
        self._add_report()

    def states(self) -> list[tuple[Stage, StageState]]:
        """Every stage in order, with where it stands."""
        return [(stage, self.directory.state(stage.name, stage.key, stage.inputs)) for stage in self.stages]

    def run(self, cluster: ClusterOptions | None = None) -> RunResult:
        """Do the stages that are not done.

        Args:
            cluster: The Ray cluster to do them on; None for this process alone.

        Raises:
            Interrupted: stopped by the user or the scheduler; the same call continues.
            SmaugError: a stage failed for a reason the user can mend; what is done stays.
        """
        place = Workplace(self._engines, self.reporter, self._interrupts.requested)
        parts = self.stages, self.directory, self.reporter, self._interrupts, place, self._take_record, self.command
        if cluster is None:
            execution = Execution(*parts)
        else:
            from smaug_eval.cluster.execution import ClusterExecution

            execution = ClusterExecution(*parts, options=cluster)
        with (
            execution.stops_as_interrupted(),
            self.directory.locked(self.reporter.warn),
            self._interrupts.installed(),
            contextlib.closing(self._engines),
        ):
            self._check_judges()
            self._check_engines(devices=cluster is None)
            self._records = {stage.name: self.directory.record(stage.name) for stage in self.stages}
            self._write_manifest()
            execution.run()
        report = self.directory.path / REPORT_FILE
        return RunResult(self.directory.path, report, tuple(execution.did), tuple(execution.skipped))

    def _add(
        self,
        name: str,
        title: str,
        inputs: Mapping[str, Any],
        needs: tuple[str, ...],
        work: Callable[[Path], Mapping[str, Any]] | Job,
        outputs: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
    ) -> None:
        inputs = redacted_values(inputs)  # another key for the same thing is no change
        keys = {stage.name: stage.key for stage in self.stages}
        key = stage_key(inputs, [keys[need] for need in needs])
        self.stages.append(Stage(name, inputs, needs, key, work, title, outputs, after))

    def _add_pairs(self, name: str) -> None:
        config = self.recipe.pairs[name]
        settings = _settings(config, "path", "eval_path", "allow_leaks")
        sets = tuple(config.sets) if isinstance(config, MixturePairs) else ()
        data = {} if isinstance(config, MixturePairs) else self._pair_data(name, config)

        def work(folder: Path) -> Mapping[str, Any]:
            from trainers.pairs.build import build_pairs

            built = {part: self.directory.folder(f"pairs/{part}") for part in sets}
            return build_pairs(config, data_root=self._data_root, out_dir=folder, sets=built).model_dump(mode="json")

        needs = tuple(f"pairs/{part}" for part in sets)
        self._add(f"pairs/{name}", f"pairs {name}", {"pairs": settings, "data": data}, needs, work)

    def _pair_data(self, name: str, config: SourcedPairs) -> dict[str, str]:
        """Hashes of the files a pair set is made from; for the Hub the data set's split and revision."""
        data: dict[str, str] = {}
        for location, side in zip(locations(config), ("", "held out: "), strict=True):
            if location is None:
                continue
            try:
                files = source_files(location, data_root=self._data_root)
            except SmaugError as error:
                raise SmaugError(f"pairs.{name}.path: {error.message}", fix=error.fix) from error
            hub = {f"{side}hub:{location}": location.revision or "newest"}
            data |= {f"{side}{file.name}": sha256_of_file(file) for file in files} or hub
        return data

    def _add_leaks(self, name: str) -> None:
        """Keep what the models trained on a pair set are scored on out of it."""
        allowed = known_tasks(self.recipe.pairs[name].allow_leaks, f"pairs.{name}.allow_leaks")
        columns = self._columns_scored_after(name)
        if not columns:
            return
        pairs = self.directory.folder(f"pairs/{name}")
        documents = {column.task: data_fingerprints(column, suite, self._data_root) for suite, column in columns}
        inputs = {"documents": documents, "allow_leaks": sorted(allowed & {short_name(*each) for each in columns})}

        def work(folder: Path) -> Mapping[str, Any]:
            return check_pairs(
                name,
                columns,
                train_file=pairs / "train.jsonl",
                eval_file=pairs / "eval.jsonl",
                allowed=allowed,
                data_root=self._data_root,
                out_dir=folder,
            )

        self._add(f"leaks/{name}", f"look for test documents in pairs {name}", inputs, (f"pairs/{name}",), work)

    def _columns_scored_after(self, pair_set: str) -> list[tuple[Suite, Column]]:
        """The columns that some model trained on a pair set is scored on."""
        trained = {name for name, training in self.recipe.trainings.items() if training.pairs == pair_set}
        columns = {
            column.task: (suite, column)
            for config in self.recipe.evaluations.values()
            if trained & set(config.models or self.recipe.model_names)
            for suite in [find_suite(config.suite)]
            for column in suite.select(config.tasks)
        }
        return list(columns.values())

    def _add_training(self, name: str) -> None:
        config = self.recipe.trainings[name]
        pairs = f"pairs/{config.pairs}"
        seed = self.recipe.seed if config.seed is None else config.seed
        dtype = self._training_dtype()
        quiet = ("pairs", "seed", "log_every", "save_every", "wandb_project", "gradient_cosine_pairs", "launch")
        inputs = {"training": _settings(config, *quiet), "seed": seed, "dtype": dtype, "base": self._base.sha256}
        if config.launch is not None:
            inputs["processes"] = self._processes(name, config.launch)

        folder = self.directory.folder
        spec = TrainingSpec(
            config=config,
            name=name,
            model_path=self._base.path,
            dtype=dtype,
            train_file=folder(pairs) / "train.jsonl",
            eval_file=folder(pairs) / "eval.jsonl",
            out_dir=folder(f"train/{name}"),
            seed=seed,
            model_sha256=self._base.sha256,
            base=self._base_name(),
            reference_dir=self.directory.path / "reference",
            trust_remote_code=self._trusted,
        )
        guards = tuple(stage.name for stage in self.stages if stage.name == f"leaks/{config.pairs}")
        title = f"train {name} ({config.loss.display_name}){self._place_in_study(name)}"
        self._add(f"train/{name}", title, inputs, (pairs,), TrainingJob(spec, config.launch), after=guards)

    def _place_in_study(self, name: str) -> str:
        """Which of the study's trainings this is, in words; nothing outside a study."""
        return f", training {self._grid.index(name) + 1} of {len(self._grid)}" if name in self._grid else ""

    def _processes(self, name: str, launch: LaunchConfig) -> int:
        try:
            return process_number(launch)
        except SmaugError as error:
            raise SmaugError(f"trainings.{name}.launch: {error.message}", fix=error.fix) from error

    def _base_name(self) -> str:
        """The base model as a model card may name it: not by a path on this machine."""
        return self._base.path.name if Path(self._base.source).exists() else self._base.source

    def _training_dtype(self) -> str:
        wanted = self.recipe.model.dtype
        dtype = self._base.dtype if wanted == "auto" else wanted
        if dtype not in TRAINING_DTYPES:
            raise SmaugError(
                f"model.dtype: {dtype} cannot be trained in", fix=f"set model.dtype to {' or '.join(TRAINING_DTYPES)}"
            )
        return dtype

    def _add_measurements(self, model: str) -> None:
        for name, evaluation in self.recipe.evaluations.items():
            if model in self.recipe.models_of(evaluation):
                self._add_evaluation(name, model)
        for name, dialogues in self.recipe.mt_bench.items():
            if model in self.recipe.models_of(dialogues):
                self._add_answers(name, model)

    def _add_evaluation(self, name: str, model: str) -> None:
        config = self.recipe.evaluations[name]
        suite = find_suite(config.suite)
        engine = choose_engine(config.engine)
        for column in suite.select(config.tasks):
            data = data_fingerprints(column, suite, self._data_root)
            inputs = {
                "suite": suite.name,
                "task": column.task,
                "limit": config.limit,
                "engine": engine,
                "engine_args": dict(config.engine_args),
                "dtype": self.recipe.model.dtype,
                "data": data,
                **self._base_input(model),
            }
            job = EvaluationJob(
                suite=suite.name,
                task=column.task,
                limit=config.limit,
                data_root=self._data_root,
                engine=engine,
                checkpoint=self._checkpoint_path(model),
                dtype=self.recipe.model.dtype,
                batch_size=config.batch_size,
                device=config.device,
                engine_args=dict(config.engine_args),
                journal=self.directory.path / rundir.JOURNAL,
                trust_remote_code=self._trusted,
            )
            self._add(
                f"eval/{model}/{name}/{short_name(suite, column)}",
                f"evaluate {model} on {column.title}",
                inputs,
                self._training_stages(model),
                job,
                after=self._scored_on_the_same(model, data),
            )

    def _scored_on_the_same(self, model: str, data: Mapping[str, str]) -> tuple[str, ...]:
        """The stages before that score a model on some of the same rows: it is settled which answers a request."""
        rows = set(data.values())
        before = [stage for stage in self.stages if stage.name.startswith(f"eval/{model}/")]
        return tuple(stage.name for stage in before if rows & set(stage.inputs["data"].values()))

    def _answering(self, name: str) -> Answering:
        config = self.recipe.mt_bench[name]
        answering = Answering(
            config,
            seed=self.recipe.seed,
            dtype=self.recipe.model.dtype,
            reporter=self.reporter,
            trust_remote_code=self._trusted,
        )
        try:
            answering.check(self._base.path)  # trained models keep its tokenizer
        except SmaugError as error:
            raise SmaugError(f"mt_bench.{name}: {error.message}", fix=error.fix) from error
        return answering

    def _add_answers(self, name: str, model: str) -> None:
        answering = self._dialogues[name]
        checkpoint = self._base if model == BASE else self._checkpoint_path(model)
        config, dtype = self.recipe.mt_bench[name], self.recipe.model.dtype
        job = AnswersJob(config, self.recipe.seed, dtype, model, checkpoint, self._trusted)
        self._add(
            answers_stage(name, model),
            f"{model} answers {answering.questions.title}",
            answering.inputs | self._base_input(model),
            self._training_stages(model),
            job,
        )

    def _add_judgments(self, name: str) -> None:
        config = self.recipe.mt_bench[name]
        if config.judge is None:
            return
        questions = self._dialogues[name].questions
        judging = self._judges[name] = Judging(config.judge, questions, self.reporter)
        for task in self._to_judge(name, judging):
            stage = judgments_stage(name, task.name)
            answered = [answers_stage(name, model) for model in task.models]
            files = [answers_file(self.directory.folder(answers_stage(name, model)), model) for model in task.models]

            def work(folder: Path, stage: str = stage, files: list[Path] = files) -> Mapping[str, Any]:
                self._engines.close()  # a judge may take hours, or need the memory
                return judging.judge(files, judging.file(folder), self.directory.superseded(stage))

            title = f"{judging.name} judges {task.name} on {questions.title}"
            self._add(stage, title, judging.inputs, tuple(answered), work)

    def _to_judge(self, name: str, judging: Judging) -> list[Task]:
        try:
            return judging.tasks(self.recipe.models_of(self.recipe.mt_bench[name]))
        except SmaugError as error:
            raise SmaugError(f"mt_bench.{name}.judge: {error.message}", fix=error.fix) from error

    def _check_judges(self) -> None:
        """Make sure, before anything runs, that a judge who will be asked can be."""
        for name, judging in self._judges.items():
            prefix = judgments_stage(name, "")
            if any(stage.name.startswith(prefix) and state.status != "done" for stage, state in self.states()):
                judging.check()

    def _check_engines(self, *, devices: bool) -> None:
        """Make sure, before anything runs, of what the engines that will be used are told, and of their devices."""
        left = [stage.name for stage, state in self.states() if state.status != "done"]
        entries: list[tuple[str, str, EvaluationConfig | MtBenchConfig]] = []
        entries += [(f"evaluations.{name}", f"eval/*/{name}/*", each) for name, each in self.recipe.evaluations.items()]
        entries += [(f"mt_bench.{name}", answers_stage(name, "*"), each) for name, each in self.recipe.mt_bench.items()]
        for key, stages, entry in entries:
            if not fnmatch.filter(left, stages):
                continue
            try:
                check_engine_args(entry.engine_args)
                if devices and entry.engine not in VLLM_ENGINES:
                    check_device(entry.device)
            except SmaugError as error:
                raise SmaugError(f"{key}.{error.message}", fix=error.fix) from error

    def _base_input(self, model: str) -> dict[str, str]:
        """What decides the results of the model before training; those of a trained one depend on its training."""
        return {"model": self._base.sha256} if model == BASE else {}

    def _training_stages(self, model: str) -> tuple[str, ...]:
        return () if model == BASE else (f"train/{model}",)

    def _checkpoint_path(self, model: str) -> Path:
        return self._base.path if model == BASE else self.directory.folder(f"train/{model}") / "checkpoint"

    def _add_report(self) -> None:
        from reports import build_report

        def work(folder: Path) -> Mapping[str, Any]:
            self._write_manifest()
            out = self.directory.path / REPORT_FILE
            title = self.recipe.report.title or self.recipe.name
            build_report([self.directory.path], out, title=title, baseline=self.recipe.report.baseline)
            return {"report": REPORT_FILE, "bytes": out.stat().st_size}

        shown = tuple(stage.name for stage in self.stages)
        # Their names, too: a stage's key is the same under another one.
        inputs = {"report": self.recipe.report.model_dump(), "name": self.recipe.name, "stages": list(shown)}
        self._add("report", "report", inputs, shown, work, (REPORT_FILE,))

    def _take_record(self, stage: str) -> None:
        """Bring the manifest up to date with what was recorded of a stage."""
        self._records[stage] = self.directory.record(stage)
        self._write_manifest()

    def _write_manifest(self) -> None:
        """Everything a reader needs to know where the numbers come from."""
        self.directory.check_held()
        file = self.directory.path / rundir.MANIFEST
        before = self.directory.manifest()
        records = self._records  # read once: a study has hundreds of stages
        write_json(
            file,
            {
                "name": self.recipe.name,
                "description": self.recipe.description,
                "created": before.get("created", rundir.now()),
                "updated": rundir.now(),
                "command": self.command,
                **rundir.environment(),
                "seeds": {
                    "recipe": self.recipe.seed,
                    "pairs": {name: pairs.seed for name, pairs in self.recipe.pairs.items()},
                    "trainings": {
                        name: self.recipe.seed if training.seed is None else training.seed
                        for name, training in self.recipe.trainings.items()
                    },
                },
                "models": self._describe_models(records),
                "data": {stage.name: stage.inputs["data"] for stage in self.stages if stage.inputs.get("data")},
                "data_revisions": {
                    hub_id: revision
                    for record in records.values()
                    for hub_id, revision in record.get("summary", {}).get("data_revisions", {}).items()
                },
                "stages": [_stage_line(stage, records[stage.name]) for stage in self.stages],
                "warnings": self._warnings(records),
                "recipe": recipe_as_dict(self.recipe),
            },
        )

    def _warnings(self, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What a reader of the numbers must know, each once."""
        of_stages = [text for record in records.values() for text in record.get("summary", {}).get("warnings", [])]
        return list(dict.fromkeys([*([trust_warning(self._base.source)] if self._trusted else []), *of_stages]))

    def _describe_models(self, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        trained = {name: records[f"train/{name}"].get("summary", {}).get("model") for name in self.recipe.trainings}
        return {BASE: self._base.describe(), **{name: model for name, model in trained.items() if model}}


def _settings(config: BaseModel, *without: str) -> dict[str, Any]:
    """The settings that decide a stage's result, under the names YAML uses."""
    return config.model_dump(mode="json", by_alias=True, exclude=set(without))


def _stage_line(stage: Stage, record: Mapping[str, Any]) -> dict[str, Any]:
    done = record.get("key") == stage.key
    return {
        "name": stage.name,
        "status": record.get("status", "new") if done else "new",
        "seconds": record.get("seconds") if done else None,
        "finished": record.get("finished") if done else None,
        "key": stage.key,
    }
