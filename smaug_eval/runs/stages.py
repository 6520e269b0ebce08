"""Build the stages of a run from its recipe, in an order in which each can be done."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from smaug_eval.common.console import Reporter
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import sha256_of_text
from smaug_eval.common.redaction import redacted_values
from smaug_eval.common.settings import deciding_settings
from smaug_eval.common.suggest import nearest
from smaug_eval.contamination.leaks import check_pairs, known_tasks
from smaug_eval.engines.pool import EnginePool
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.lm_eval.task_code import trust_warning
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.suite_data import data_fingerprints, short_name
from smaug_eval.mt_bench.files.layout import answers_file, answers_stage, decided_stage, judgments_stage
from smaug_eval.mt_bench.stage.answering import Answering
from smaug_eval.mt_bench.stage.deciding import StopRule
from smaug_eval.mt_bench.stage.judging import Judging, JudgingTask
from smaug_eval.results.kept_values import baseline_on_page
from smaug_eval.results.layout import (
    CHECKPOINT_FOLDER,
    CURVES,
    DECISIONS_FILE,
    EVALUATIONS,
    REFERENCES,
    REPORT,
    REPORT_FILE,
    choice_stage,
    curve_stage,
    decision_stage,
    evaluation_stage,
    leaks_stage,
    pairs_stage,
    training_stage,
)
from smaug_eval.runs.asked import EvaluationsAsked
from smaug_eval.runs.checkpoint_jobs import CheckpointsJob, Chosen
from smaug_eval.runs.data import RunData
from smaug_eval.runs.decisions import decision_of, kept_results
from smaug_eval.runs.directory import stage_key
from smaug_eval.runs.execution import Stage
from smaug_eval.runs.jobs import AnswersJob, Decisions, Job, TrainingJob
from smaug_eval.runs.lineage import ancestors, parents
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.origins import Origin
from smaug_eval.runs.recipe import BASE
from smaug_eval.trainers.chat_templates import template_text
from smaug_eval.trainers.config import LaunchConfig, TrainingConfig
from smaug_eval.trainers.launch import process_number
from smaug_eval.trainers.layout import EVAL_FILE, TRAIN_FILE
from smaug_eval.trainers.pairs.config import MixturePairs
from smaug_eval.trainers.pairs.sources import commits_of
from smaug_eval.trainers.spec import ReferenceModel, TrainingSpec

# Keys of a training that do not decide its result, or decide it elsewhere in the inputs.
_QUIET = (
    *("pairs", "seed", "log_every", "save_every", "wandb_project", "gradient_cosine_pairs", "launch"),
    *("start", "reference", "chat_template", "sample_prompts", "sample_tokens", "evaluate"),
)


class StageBuilder:
    """Build the stages of a run: pairs, search for test documents, trainings, evaluations, dialogues, report.

    Args:
        models: Of the run.
        reporter: Shows progress.
        created: When the run was begun.
        engines: Keeps loaded models; emptied before a judge works.
        write_manifest: Writes the manifest, which the report shows.

    Attributes:
        stages: What was made, in order.
        judges: By the recipe's name of what they judge.
        dialogues: How models answer, by the recipe's name of the questions and by model.

    Raises:
        SmaugError: a pair file, a suite, a task, a question set or a data file named by the recipe is not there.
    """

    def __init__(
        self,
        models: RunModels,
        reporter: Reporter,
        *,
        created: datetime.datetime,
        engines: EnginePool,
        write_manifest: Callable[[], None],
    ) -> None:
        self.stages: list[Stage] = []
        self.judges: dict[str, Judging] = {}
        self._models, self._recipe, self._directory = models, models.recipe, models.directory
        self._reporter, self._engines, self._write_manifest = reporter, engines, write_manifest
        self._created = created
        self._grid = list(self._recipe.study.trainings()) if self._recipe.study is not None else []
        self._checked: dict[tuple[object, ...], Answering] = {}
        self._data_root = Path(self._recipe.data_root) if self._recipe.data_root else None
        self._data = RunData(self._data_root, self._directory, reporter.warn)
        self._questions = EvaluationsAsked(models, self._data)
        self._build()

    def _build(self) -> None:
        recipe = self._recipe
        # A mixture comes after the sets it draws from.
        for name in sorted(recipe.pairs, key=lambda name: recipe.pairs[name].source == "mixture"):
            self._add_pairs(name)
        for pair_set in recipe.pairs:
            self._add_leaks(pair_set)
        self.dialogues = {
            name: {model: self._answering(name, model) for model in recipe.models_of(entry)}
            for name, entry in recipe.mt_bench.items()
        }
        for number, trainings in enumerate(recipe.rounds()):
            for name in trainings:
                self._add_with_parents(name)
            given = [] if number else list(self._models.given)
            for model in (*given, *trainings):  # in turn, so that each is loaded once
                self._add_measurements(model)
        for name, evaluation in recipe.evaluations.items():
            if evaluation.stop is not None:
                self._add_decided(name)
        for name in recipe.mt_bench:
            self._add_judgments(name)
        self._add_report()

    def _add(
        self,
        name: str,
        title: str,
        inputs: Mapping[str, Any],
        needs: tuple[str, ...],
        work: Callable[[Path], Mapping[str, Any]] | Job,
        outputs: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
        *,
        data_revisions: Mapping[str, str] | None = None,
        drafted: bool = False,
    ) -> None:
        inputs = redacted_values(inputs)  # another key for the same thing is no change
        keys = {stage.name: stage.key for stage in self.stages}
        key = stage_key(inputs, [keys[need] for need in needs])
        self.stages.append(Stage(name, inputs, needs, key, work, title, outputs, after, data_revisions or {}, drafted))

    # Pairs

    def _add_pairs(self, name: str) -> None:
        config = self._recipe.pairs[name]
        settings = deciding_settings(config, ("path", "eval_path", "allow_leaks", "ches"))
        sets = tuple(config.sets) if isinstance(config, MixturePairs) else ()
        if filtered := next((part for part in sets if self._recipe.pairs[part].ches is not None), None):
            raise SmaugError(
                f"pairs.{filtered}.ches has no effect in the mixture {name}: a training filters its own pair set",
                fix=f"give ches in pairs.{name}",
            )
        pinned, data = self._data.pairs(name, config)
        commits = {} if isinstance(pinned, MixturePairs) else commits_of(pinned, self._data_root)

        def work(folder: Path) -> Mapping[str, Any]:
            from smaug_eval.trainers.pairs.build import build_pairs  # with pandas and pyarrow

            built = {part: self._directory.folder(pairs_stage(part)) for part in sets}
            stats = build_pairs(pinned, data_root=self._data_root, out_dir=folder, sets=built)
            for note in stats.notes:
                self._reporter.say(f"pairs {name}: {note}")
            return {**stats.model_dump(mode="json"), "data_revisions": commits}

        needs = tuple(map(pairs_stage, sets))
        inputs = {"pairs": settings, "data": data}
        self._add(pairs_stage(name), f"pairs {name}", inputs, needs, work, data_revisions=commits)

    def _add_leaks(self, name: str) -> None:
        """Keep what the models trained on a pair set are scored on out of it."""
        columns = self._columns_scored_after(name)
        key = f"pairs.{name}.allow_leaks"
        allowed = known_tasks(self._recipe.pairs[name].allow_leaks, key, columns)
        if not columns:
            return
        pairs = self._directory.folder(pairs_stage(name))
        documents = {column.task: data_fingerprints(column, suite, self._data_root) for suite, column in columns}
        inputs = {"documents": documents, "allow_leaks": sorted(allowed & {short_name(*each) for each in columns})}

        def work(folder: Path) -> Mapping[str, Any]:
            return check_pairs(
                name,
                columns,
                train_file=pairs / TRAIN_FILE,
                eval_file=pairs / EVAL_FILE,
                allowed=allowed,
                data_root=self._data_root,
                out_dir=folder,
            )

        revisions = self._data.revisions(columns)
        title = f"look for test documents in pairs {name}"
        self._add(leaks_stage(name), title, inputs, (pairs_stage(name),), work, data_revisions=revisions)

    def _columns_scored_after(self, pair_set: str) -> list[tuple[Suite, Column]]:
        """Return the columns that some model trained on a pair set is scored on."""
        trainings = self._recipe.trainings
        trained = {
            name
            for name in trainings
            if any(trainings[each].pairs == pair_set for each in (name, *ancestors(name, trainings)))
        }
        columns = {
            column.task: (suite, column)
            for name, config in self._recipe.evaluations.items()
            if trained & set(self._recipe.asked_of(name))
            for suite in [self._data.suite(config)]
            for column in suite.select(config.tasks)
        }
        return list(columns.values())

    # Trainings

    def _add_with_parents(self, name: str) -> None:
        """Add a training behind those that it starts from or is compared with."""
        for parent in parents(name, self._recipe.trainings):
            self._add_with_parents(parent)
        if all(stage.name != training_stage(name) for stage in self.stages):
            self._add_training(name)
            self._add_curves(name)
            self._add_choice(name)

    def _add_training(self, name: str) -> None:
        config, models = self._recipe.trainings[name], self._models
        pair_set = str(config.pairs)
        pairs = pairs_stage(pair_set)
        seed = self._recipe.seed if config.seed is None else config.seed
        dtype = models.training_dtype(name)
        start, reference = models.origins.start(name), models.origins.reference(name)
        settings = deciding_settings(config.as_trained(), _QUIET)
        inputs = {"training": settings, "seed": seed, "dtype": dtype, "base": start.sha256 or models.base.sha256}
        inputs |= _origins(config, start, reference)
        ches = self._recipe.pairs[pair_set].ches
        if ches is not None:
            inputs["ches"] = ches.model_dump()
        if config.chat_template is not None:
            inputs["chat_template"] = _template_sha256(name, config.chat_template)
        if config.evaluate is not None:
            inputs["checkpoints_every"] = config.evaluate.every
        if config.launch is not None:
            inputs["processes"] = _processes(name, config.launch)

        folder = self._directory.folder
        spec = TrainingSpec(
            config=config,
            name=name,
            model_path=start.path,
            dtype=dtype,
            train_file=folder(pairs) / TRAIN_FILE,
            eval_file=folder(pairs) / EVAL_FILE,
            out_dir=folder(training_stage(name)),
            seed=seed,
            model_sha256=start.sha256,
            base=start.name,
            reference_dir=self._directory.path / REFERENCES,
            trust_remote_code=models.is_trusted(name),
            date=self._created.date(),
            base_source=start.source,
            base_revision=start.revision,
            start_adapter=start.adapter,
            reference=None if reference is None else _reference(reference),
            ches=ches,
        )
        guards = tuple(stage.name for stage in self.stages if stage.name == leaks_stage(pair_set))
        needs = dict.fromkeys((pairs, *start.needs, *(reference.needs if reference is not None else ())))
        title = f"train {name} ({config.entry.title}){self._place_in_study(name)}"
        self._add(training_stage(name), title, inputs, tuple(needs), TrainingJob(spec, config.launch), after=guards)

    def _place_in_study(self, name: str) -> str:
        """Say which of the study's trainings this is; nothing outside a study."""
        return f", training {self._grid.index(name) + 1} of {len(self._grid)}" if name in self._grid else ""

    # Evaluations and dialogues

    def _add_measurements(self, model: str) -> None:
        for name, evaluation in self._recipe.evaluations.items():
            if model in self._recipe.models_of(evaluation) and evaluation.stop is None:
                self._add_evaluation(name, model)
        for name, dialogues in self._recipe.mt_bench.items():
            if model in self._recipe.models_of(dialogues):
                self._add_answers(name, model)

    def _add_decided(self, name: str) -> None:
        """Score an evaluation's models together until its columns are decided; then write each one's results."""
        recipe, models = self._recipe, self._models
        config = recipe.evaluations[name]
        suite, scored = self._data.suite(config), recipe.models_of(config)
        try:
            decision = decision_of(name, recipe, suite, self._data_root)
        except SmaugError as error:
            raise SmaugError(f"evaluations.{name}.stop: {error.message}", fix=error.fix) from error
        evaluated = {model: list(self._questions.asked(name, model)) for model in scored}
        jobs = {model: {asked.title: asked.job for asked in own} for model, own in evaluated.items()}
        needs = dict.fromkeys(stage for model in scored for stage in models.stages(model))
        inputs = {
            "models": {model: [asked.inputs for asked in own] for model, own in evaluated.items()},
            **decision.inputs,
        }
        after = tuple(
            dict.fromkeys(
                stage
                for model, own in evaluated.items()
                for asked in own
                for stage in self._scored_on_the_same(model, asked.inputs["data"])
            )
        )
        stage = decision_stage(name)
        revisions = self._data.revisions([(suite, column) for column in suite.select(config.tasks)])
        title = f"compare {', '.join(scored)} until {name} is decided"
        self._add(stage, title, inputs, tuple(needs), decision.job(jobs), after=after, data_revisions=revisions)
        file = self._directory.folder(stage) / DECISIONS_FILE
        for model in scored:
            decisions = {each.title: Decisions(file, model, each.title, each.order) for each in decision.columns}
            self._add_evaluation(name, model, decisions)

    def _add_evaluation(self, name: str, model: str, decisions: Mapping[str, Decisions] | None = None) -> None:
        for asked in self._questions.asked(name, model):
            held = None if decisions is None else decisions[asked.title]
            self._add(
                evaluation_stage(model, name, asked.column),
                f"evaluate {model} on {asked.title}",
                asked.inputs if held is None else {**asked.inputs, "seed": held.order.seed},
                (*self._models.stages(model), *(() if held is None else (decision_stage(name),))),
                asked.job if held is None else replace(asked.job, decisions=held),
                after=self._scored_on_the_same(model, asked.inputs["data"]),
                data_revisions=asked.revisions,
            )

    def _add_curves(self, training: str) -> None:
        """Score the checkpoints that a training kept."""
        config, models = self._recipe.trainings[training], self._models
        if config.evaluate is None:
            return
        start, stage = models.origins.start(training), training_stage(training)
        folder = self._directory.folder(stage)
        for name in config.evaluate.evaluations:
            for asked in self._questions.asked(name, training, folder / CHECKPOINT_FOLDER):
                job = CheckpointsJob(
                    asked.job,
                    training=folder,
                    every=config.evaluate.every,
                    start=start.path,
                    start_adapter=start.adapter,
                    dtype=models.training_dtype(training),
                )
                self._add(
                    curve_stage(training, name, asked.column),
                    f"evaluate the checkpoints of {training} on {asked.title}",
                    {**asked.inputs, "checkpoints_every": config.evaluate.every},
                    (stage,),
                    job,
                    after=self._scored_on_the_same(training, asked.inputs["data"]),
                    data_revisions=asked.revisions,
                )

    def _add_choice(self, training: str) -> None:
        """Make the best checkpoint of a training its model, where an evaluation decides which that is."""
        config, models = self._recipe.trainings[training], self._models
        if config.chosen_by is None:
            return
        evaluation, task = config.chosen_by
        self._data.refuse_reported(training, evaluation, self._recipe)
        start, stage = models.origins.start(training), training_stage(training)
        deciding = [each.name for each in self.stages if each.name.startswith(curve_stage(training, evaluation, ""))]
        tasks = [name.rpartition("/")[2] for name in deciding]
        if task is not None and task not in tasks:
            raise SmaugError(
                f"trainings.{training}.keep_metric = {config.keep_metric!r}: evaluations.{evaluation} has no task "
                f"{task!r}{nearest(task, tasks)}",
                fix="correct keep_metric, or leave the task out for the mean over all",
            )
        chosen = Chosen(
            training=self._directory.folder(stage),
            start=start.path,
            start_name=start.source,
            start_revision=start.revision,
            dtype=models.training_dtype(training),
            trust_remote_code=models.is_trusted(training),
        )

        def work(folder: Path) -> Mapping[str, Any]:
            from smaug_eval.results.curves import best_step  # with pandas

            step, scores = best_step(self._directory.path, training, evaluation, task)
            self._reporter.say(f"{training}: keeps the weights of step {step}, the best {config.keep_metric}")
            return chosen.make(folder, step, config.keep_metric, scores)

        title = f"choose the checkpoint of {training} by {config.keep_metric}"
        self._add(choice_stage(training), title, {"keep_metric": config.keep_metric}, (stage, *deciding), work)

    def _scored_on_the_same(self, model: str, data: Mapping[str, str]) -> tuple[str, ...]:
        """Name the stages before that score a model on some of the same rows: it is settled which answers a request."""
        rows = set(data.values())
        own = (f"{EVALUATIONS}/{model}/", f"{CURVES}/{model}/")
        before = [stage for stage in self.stages if stage.name.startswith(own)]
        return tuple(stage.name for stage in before if rows & set(stage.inputs["data"].values()))

    def _answering(self, name: str, model: str) -> Answering:
        """How a model answers; made and checked once for the models that have the base's tokenizer."""
        entry, models = self._recipe.mt_bench[name], self._models
        folders = models.weights_of(model), models.tokenizer_of(model)
        key = (name, *folders, models.dtype(model), models.is_trusted(model), model if model in entry.served else None)
        if key in self._checked:
            return self._checked[key]
        answering = Answering(
            entry.of(model),
            seed=self._recipe.seed,
            dtype=self._models.dtype(model),
            reporter=self._reporter,
            trust_remote_code=self._models.is_trusted(model),
        )
        try:
            answering.check(models.given.get(model) or models.weights_of(model), models.tokenizer_of(model))
        except SmaugError as error:
            where = f"mt_bench.{name}.served.{model}" if model in entry.served else f"mt_bench.{name}"
            raise SmaugError(f"{where}: {error.message}", fix=error.fix) from error
        self._checked[key] = answering
        return answering

    def _add_answers(self, name: str, model: str) -> None:
        answering, models = self.dialogues[name][model], self._models
        checkpoint = models.given.get(model) or models.checkpoint(model)
        config, dtype = self._recipe.mt_bench[name].of(model), models.dtype(model)
        start = models.base_of(model)
        base = None if start is None else start.checkpoint or start.path
        job = AnswersJob(config, self._recipe.seed, dtype, model, checkpoint, models.is_trusted(model), base)
        self._add(
            answers_stage(name, model),
            f"{model} answers {answering.questions.title}",
            answering.inputs | models.inputs(model),
            models.stages(model),
            job,
        )

    def _add_judgments(self, name: str) -> None:
        config = self._recipe.mt_bench[name]
        if config.judge is None:
            return
        questions = next(iter(self.dialogues[name].values())).questions
        judging = self.judges[name] = Judging(config.judge, questions, self._reporter, config.thinking)
        rule = None
        if config.stop is not None:
            rule = StopRule(self._recipe.baseline_of(config), config.within, self._recipe.seed)
            self._add_decided_judgments(name, judging, rule)
        decided = decided_stage(name)
        for task in self._to_judge(name, judging):
            stage = judgments_stage(name, task.name)
            answered = [answers_stage(name, model) for model in task.models]
            files = [answers_file(self._directory.folder(answers_stage(name, model)), model) for model in task.models]

            def work(folder: Path, stage: str = stage, files: list[Path] = files) -> Mapping[str, Any]:
                self._engines.close()  # a judge may take hours, or need the memory
                return judging.judge(files, judging.file(folder), self._directory.superseded(stage))

            def taken(folder: Path, models: tuple[str, ...] = task.models) -> Mapping[str, Any]:
                return judging.part_of(judging.file(self._directory.folder(decided)), models, judging.file(folder))

            title = f"{judging.name} judges {task.name} on {questions.title}"
            if rule is None:
                self._add(stage, title, judging.inputs, tuple(answered), work)
            else:
                self._add(stage, title, judging.inputs | rule.inputs, (*answered, decided), taken)

    def _add_decided_judgments(self, name: str, judging: Judging, rule: StopRule) -> None:
        """Judge all models' answers together until they are decided."""
        models = self._recipe.models_of(self._recipe.mt_bench[name])
        stage = decided_stage(name)
        files = [answers_file(self._directory.folder(answers_stage(name, model)), model) for model in models]

        def work(folder: Path) -> Mapping[str, Any]:
            self._engines.close()
            file = judging.file(folder)
            return judging.judge_until_decided(files, file, rule, self._directory.superseded(stage))

        title = f"{judging.name} judges {', '.join(models)} until they are decided"
        needs = tuple(answers_stage(name, model) for model in models)
        self._add(stage, title, judging.inputs | rule.inputs | {"models": models}, needs, work)

    def _to_judge(self, name: str, judging: Judging) -> list[JudgingTask]:
        try:
            return judging.tasks(self._recipe.models_of(self._recipe.mt_bench[name]))
        except SmaugError as error:
            raise SmaugError(f"mt_bench.{name}.judge: {error.message}", fix=error.fix) from error

    def conversations(self) -> dict[str, dict[str, Any]]:
        """Return how each model is spoken to in each of the recipe's dialogues, for the manifest."""
        models = self._models
        return {
            name: {
                model: each.conversation(models.given.get(model) or models.weights_of(model))
                for model, each in own.items()
            }
            for name, own in self.dialogues.items()
        }

    def warnings(self) -> list[str]:
        """Return what is known of the tasks before anything runs, for those who read their numbers."""
        told: list[str] = []
        for suite in self._data.lm_eval_suites:
            if code := suite.code():
                told.append(trust_warning(code, suite.settings.include_path))
            told += suite.hazards()
        return list(dict.fromkeys(told))

    # Report

    def _add_report(self) -> None:
        from smaug_eval.reports import build_report  # with pandas and Jinja
        from smaug_eval.sharing.wandb_results import log_results

        def work(folder: Path) -> Mapping[str, Any]:
            self._write_manifest()
            out = self._directory.path / REPORT_FILE
            title = self._recipe.report.title or self._recipe.name
            run, baseline = self._directory.path, self._recipe.report.baseline
            if kept:
                baseline = baseline_on_page(run, kept[0])
            build_report([run, *kept], out, title=title, baseline=baseline)
            projects = {
                name: each.wandb_project
                for name, each in self._recipe.trainings.items()
                if each.wandb_project is not None
            }
            log_results(run, projects, warn=self._reporter.warn)
            return {"report": REPORT_FILE, "bytes": out.stat().st_size}

        kept = kept_results(self._recipe)
        shown = tuple(stage.name for stage in self.stages)
        # Their names, too: a stage's key is the same under another one.
        inputs = {"report": self._recipe.report.model_dump(), "name": self._recipe.name, "stages": list(shown)}
        self._add(REPORT, "report", inputs, shown, work, (REPORT_FILE,), drafted=True)


def _reference(origin: Origin) -> ReferenceModel:
    return ReferenceModel(name=origin.name, path=origin.path, sha256=origin.sha256, adapter=origin.adapter)


def _origins(config: TrainingConfig, start: Origin, reference: Origin | None) -> dict[str, Any]:
    """What a training's stage says of its start and its reference where these are not the base; nothing where they are.

    The results of other trainings are named by their stages, which it needs.
    """
    found: dict[str, Any] = {}
    if config.start not in (None, BASE):
        found["start"] = _named_by(start)
    if reference is not None:
        found["reference"] = _named_by(reference)
    return found


def _named_by(origin: Origin) -> dict[str, Any]:
    return origin.digest or {"adapter": origin.adapter is not None, "stage": origin.needs[-1]}


def _template_sha256(name: str, template: str) -> str:
    try:
        return sha256_of_text(template_text(template))
    except SmaugError as error:
        raise SmaugError(f"trainings.{name}.{error.message}", fix=error.fix) from error


def _processes(name: str, launch: LaunchConfig) -> int:
    try:
        return process_number(launch)
    except SmaugError as error:
        raise SmaugError(f"trainings.{name}.launch: {error.message}", fix=error.fix) from error
