"""Describe the heavy stages of a run as plain data, so that they can be done here or by another process.

Paths are as the run states them: relative ones are relative to the directory that the run was started in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from smaug_eval.common.console import Voice
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.build import takes_adapter
from smaug_eval.engines.decoding_rules import Decoding
from smaug_eval.engines.journal import Relay
from smaug_eval.engines.pool import EnginePool, LoadedEngine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.engines.shares import Credit, Share
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.evaluate import NO_CHAT, Prompting, document_samples, evaluate_column, evaluate_share
from smaug_eval.leaderboard.lm_eval.settings import TaskSettings
from smaug_eval.leaderboard.lm_eval.suite import lm_eval_suite
from smaug_eval.leaderboard.orders import DocumentOrder, Documents
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.models.checkpoint import Checkpoint, locate
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.mt_bench.stage.answering import Answering, dialogue_engine
from smaug_eval.results.json_files import mapping, read_object
from smaug_eval.results.stopping import RECORDED, STOPPED, stopped_of
from smaug_eval.trainers.config import LaunchConfig
from smaug_eval.trainers.launch import train_in_processes
from smaug_eval.trainers.layout import CHECKPOINT_FOLDER
from smaug_eval.trainers.spec import TrainingSpec


@dataclass(frozen=True)
class Workplace:
    """Describe where jobs are done.

    Attributes:
        pool: Keeps a model in memory from job to job.
        voice: Receives progress and messages.
        should_stop: Whether a training should stop, with a checkpoint.
        relay: Where what belongs into the journal is sent; None to write the journal here.
        told: What was said already and is as true of the jobs to come.
    """

    pool: EnginePool
    voice: Voice
    should_stop: Callable[[], bool]
    relay: Relay | None = None
    told: set[str] = field(default_factory=set)


@runtime_checkable
class Job(Protocol):
    """Describe the work of one stage."""

    @property
    def model(self) -> str:
        """Return the model's key: jobs with the same one use the same model in memory."""
        ...

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Run the job; return the summary for the stage's record.

        Args:
            folder: Of the stage.
            place: Where it is done.

        Raises:
            Interrupted: a training was stopped; what is done of it stays.
            SmaugError: for a reason that the user can fix.
        """
        ...


@dataclass(frozen=True)
class TrainingJob:
    """Describe one training.

    Attributes:
        spec: What to train.
        launch: In how many processes; None for the present one.
    """

    spec: TrainingSpec
    launch: LaunchConfig | None

    @property
    def model(self) -> str:
        """Return every training has its own."""
        return f"train {self.spec.name}"

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Train, as :class:`Job` describes."""

        def on_progress(done: int, total: int, row: Mapping[str, float]) -> None:
            place.voice.update(done, total, _training_note(row))

        def on_note(text: str) -> None:
            if text == self.spec.config.rate_note:  # of every training at that rate
                if text in place.told:
                    return
                place.told.add(text)
            place.voice.say(text)

        told: dict[str, Any] = {
            "should_stop": place.should_stop,
            "on_progress": on_progress,
            "on_note": on_note,
            "on_warning": lambda text: place.voice.warn(self._named(text)),
        }
        spec = self.spec.with_digests()
        if self.launch is not None:
            summary = train_in_processes(spec, self.launch, **told)
        else:
            from smaug_eval.trainers.train import train

            summary = train(spec, **told).summary()
        checkpoint = locate(str(folder / CHECKPOINT_FOLDER), trust_remote_code=self.spec.trust_remote_code)
        return {
            **summary,
            "warnings": [self._named(text) for text in summary["warnings"]],
            "model": checkpoint.describe(),
        }

    def _named(self, warning: str) -> str:
        """A warning as it stands beside those of other trainings."""
        return f"{self.spec.name}: {warning}"


@dataclass(frozen=True)
class Decisions:
    """Describe where it says how many of a column's documents a model was scored on.

    Attributes:
        file: What the stage before wrote.
        model: The model's name.
        column: The column's title.
        order: Of its documents.
    """

    file: Path
    model: str
    column: str
    order: DocumentOrder

    def recorded(self) -> dict[str, Any]:
        """Return what the results file says of it, from the decisions."""
        held = read_object(self.file)
        own = mapping(mapping(held.get("models")).get(self.model))
        column = mapping(mapping(own.get("columns")).get(self.column))
        against = "" if self.model == held.get("against") else held.get("against")
        kept = {key: column[key] for key in RECORDED if key in column}
        average = {} if own.get(RECORDED.average) is None else {RECORDED.average: own[RECORDED.average]}
        return {STOPPED: {**kept, RECORDED.against: against, RECORDED.margin: held.get("margin"), **average}}


@dataclass(frozen=True)
class EvaluationJob:
    """Describe the evaluation of one model on one column.

    Attributes:
        suite: Name of the suite.
        task: The column's task in lm-eval.
        limit: First documents of each task, or their share if below 1; None for all.
        data_root: Offline mirror; None for the Hub.
        engine: The model's engine and settings.
        journal: Folder of the journal.
        commits: The Hub's commits of the data sets, by reference (:meth:`Suite.commits`).
        base: Of a model that was trained with an adapter, the folder of its base; None for other models.
        prompting: Whether prompts become chats.
        decoding: How answers are written, where that is not greedily and at once.
        settings: How lm-eval's own tasks are asked; None for suites that settle it themselves.
        decisions: How many documents are scored, where a comparison may stop early; None for what ``limit`` says.
        definition: Hash of the files that define lm-eval's own tasks, as they were when the stage was planned.
    """

    suite: str
    task: str
    limit: float | None
    data_root: Path | None
    engine: EngineSpec
    journal: Path
    commits: Mapping[str, str] = field(default_factory=dict)
    base: Path | None = None
    prompting: Prompting = NO_CHAT
    decoding: Decoding | None = None
    settings: TaskSettings | None = None
    decisions: Decisions | None = None
    definition: str | None = None

    @property
    def model(self) -> str:
        """Return the engine and what it is loaded with."""
        return self.engine.key

    @property
    def divisible(self) -> bool:
        """Return whether several processes can each do a share."""
        return self.engine.is_divisible and self.decisions is None

    def perform(self, folder: Path, place: Workplace, credit: Credit | None = None) -> Mapping[str, Any]:
        """Evaluate, as :class:`Job` describes.

        Args:
            folder: Receives lm-eval's files.
            place: Where it is done.
            credit: What shares of it have brought.
        """
        suite, column = self._column()
        documents, recorded = self._documents()
        summary = evaluate_column(
            self._loaded(place),
            suite,
            column,
            limit=self.limit,
            data_root=self.data_root,
            out_dir=folder,
            report=place.voice.update,
            credit=credit,
            prompting=self.prompting,
            decoding=self.decoding,
            documents=documents,
            recorded=recorded,
        )
        spec, warnings = self._weights()
        stopped = stopped_of(recorded)
        if stopped is not None and stopped.is_early:
            summary = {**summary, "notes": [stopped.words, *summary["notes"]]}
        noted = {} if spec.adapter is None else {"adapter": str(spec.adapter)}
        return {**summary, **noted, "warnings": [*summary["warnings"], *warnings]}

    def samples(self, documents: Documents, place: Workplace) -> dict[str, list[dict[str, Any]]]:
        """Score some documents, for the journal, and return what lm-eval logs of them, by task."""
        suite, column = self._column()
        return document_samples(
            self._loaded(place),
            suite,
            column,
            documents,
            data_root=self.data_root,
            report=place.voice.update,
            prompting=self.prompting,
        )

    def _documents(self) -> tuple[Documents | None, dict[str, Any]]:
        """The documents to score, None for all, and what the results file says of them."""
        if self.decisions is None:
            return None, {}
        recorded = self.decisions.recorded()
        stopped = stopped_of(recorded)
        if stopped is None:
            raise SmaugError(
                f"{self.decisions.file} says nothing of {self.decisions.model} on {self.decisions.column}",
                fix=f"delete {self.decisions.file.parent}, and run again; nothing is computed twice",
            )
        return (self.decisions.order.documents(0, stopped.n) if stopped.is_early else None), recorded

    def perform_share(self, share: Share, place: Workplace) -> None:
        """Answer a share of the requests, for the journal only."""
        suite, column = self._column()
        evaluate_share(
            self._loaded(place),
            suite,
            column,
            share,
            limit=self.limit,
            data_root=self.data_root,
            report=place.voice.update,
            prompting=self.prompting,
            decoding=self.decoding,
        )

    def _column(self) -> tuple[Suite, Column]:
        if self.settings is None:
            suite = find_suite(self.suite).at(self.commits)
            (column,) = suite.select([self.task])
            return suite, column
        known = dict(self.commits)
        asked = lm_eval_suite([self.task], self.settings, data_root=self.data_root, commits=known)
        (column,) = asked.select([self.task])
        if self.definition not in (None, asked.definition(column)):
            raise SmaugError(
                f"the files that define task {self.task!r} have changed since this run began",
                fix="run again: what they decide is done again, and the rest stays",
            )
        return asked, column

    def _weights(self) -> tuple[EngineSpec, list[str]]:
        """The engine with the weights to load and the adapter to put beside them, and what to say of that."""
        if self.base is None:
            return self.engine, []
        adapter, warnings = _unmerged(self.engine.engine, self.engine.checkpoint, self.base)
        return self.engine if adapter is None else replace(self.engine, checkpoint=self.base, adapter=adapter), warnings

    def _loaded(self, place: Workplace) -> LoadedEngine:
        spec, _ = self._weights()
        return place.pool.get(spec, journal=self.journal, relay=place.relay)


@dataclass(frozen=True)
class AnswersJob:
    """Describe one model's answering of a question set.

    Attributes:
        config: The recipe's entry.
        seed: Where the entry has none.
        dtype: Precision.
        name: The model's.
        checkpoint: The model, or its folder where it is still to be made.
        trust_remote_code: Whether code that comes with the model may run.
        base: Of a model that was trained with an adapter, its base, or its folder where it is still to be made; None
            for other models.
    """

    config: MtBenchConfig
    seed: int
    dtype: str
    name: str
    checkpoint: Checkpoint | Path
    trust_remote_code: bool
    base: Checkpoint | Path | None = None

    @property
    def model(self) -> str:
        """Return the engine and what it is loaded with."""
        path = self.checkpoint if isinstance(self.checkpoint, Path) else self.checkpoint.path
        adapter = None if isinstance(self.checkpoint, Path) else self.checkpoint.adapter
        config = self.config
        key = f"dialogues {config.engine} {path} {self.dtype} {config.device} {sorted(config.engine_args.items())}"
        return key if adapter is None else f"{key} {adapter}"

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Answer, as :class:`Job` describes."""
        trusted = self.trust_remote_code
        answering = Answering(
            self.config, seed=self.seed, dtype=self.dtype, reporter=place.voice, trust_remote_code=trusted
        )
        checkpoint = self.checkpoint
        warnings: list[str] = []
        if isinstance(checkpoint, Path):
            checkpoint, warnings = self._trained(checkpoint)
        summary = answering.answer(folder, self.name, checkpoint, place.pool)
        return {**summary, "warnings": [*summary["warnings"], *warnings]}

    def _trained(self, folder: Path) -> tuple[Checkpoint, list[str]]:
        """The model of a finished training, and what to say of its weights."""
        warnings: list[str] = []
        if self.base is not None:
            base = self.base if isinstance(self.base, Path) else self.base.path
            adapter, warnings = _unmerged(dialogue_engine(self.config.engine), folder, base)
            if adapter is not None:
                whole = self.base
                if isinstance(whole, Path):
                    whole = locate(str(whole), trust_remote_code=self.trust_remote_code)
                return whole.with_adapter(adapter), warnings
        return locate(str(folder), trust_remote_code=self.trust_remote_code), warnings


def _unmerged(engine: str, checkpoint: Path, base: Path) -> tuple[Path | None, list[str]]:
    """The adapter that stands for a training whose merge lost much of it, and what to say if it cannot be used.

    Args:
        engine: What runs the model.
        checkpoint: Of the training: the merged model.
        base: The model that it was trained from.

    Returns:
        None where the merged checkpoint is evaluated, with a warning if that is for the engine's sake.
    """
    from smaug_eval.trainers.checkpoints import evaluated_adapter

    adapter, lost = evaluated_adapter(checkpoint.parent)
    if adapter is None or takes_adapter(engine, adapter, base):
        return adapter, []
    name = checkpoint.parent.name
    return None, [f"{name}: engine {engine} cannot put this adapter beside its base and evaluates the merge: {lost}"]


def _training_note(row: Mapping[str, float]) -> str:
    if not row:
        return "scoring the reference"
    shown = {"loss": "loss", "log_ratios/chosen": "chosen", "log_ratios/rejected": "rejected"}
    return "  ".join(f"{label} {row[key]:+.2f}" for key, label in shown.items() if key in row)
