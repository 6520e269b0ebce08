"""The heavy stages of a run as plain data, so that they can be done here or by another process.

Paths are as the run states them: relative ones are relative to the directory that the run was started in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from smaug_eval.console import Voice
from smaug_eval.engines.journal import Relay
from smaug_eval.engines.shares import Credit, Share
from smaug_eval.evaluation import EnginePool, LoadedEngine, evaluate_column, evaluate_share
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite import Column, Suite
from smaug_eval.models import Checkpoint, locate
from smaug_eval.mt_bench.config import MtBenchConfig
from smaug_eval.mt_bench.stage import Answering
from trainers.config import LaunchConfig
from trainers.launch import TrainingSpec, train_in_processes

OWN_ENGINES = ("torch", "vllm")


@dataclass(frozen=True)
class Workplace:
    """Where jobs are done.

    Attributes:
        pool: Keeps a model in memory from job to job.
        voice: Is told of the course of things.
        should_stop: Whether a training should stop, with a checkpoint.
        relay: Where what belongs into the journal is sent; None to write the journal here.
    """

    pool: EnginePool
    voice: Voice
    should_stop: Callable[[], bool]
    relay: Relay | None = None


@runtime_checkable
class Job(Protocol):
    """The work of one stage."""

    @property
    def model(self) -> str:
        """Jobs with the same one use the same model in memory."""
        ...

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Do it; returns the summary for the stage's record.

        Args:
            folder: Of the stage.
            place: Where it is done.

        Raises:
            Interrupted: a training was stopped; what is done of it stays.
            SmaugError: for a reason that the user can mend.
        """
        ...


@dataclass(frozen=True)
class TrainingJob:
    """One training.

    Attributes:
        spec: What to train.
        launch: In how many processes; None for the present one.
    """

    spec: TrainingSpec
    launch: LaunchConfig | None

    @property
    def model(self) -> str:
        """Every training has its own."""
        return f"train {self.spec.name}"

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Train; see :class:`Job`."""

        def on_progress(done: int, total: int, row: Mapping[str, float]) -> None:
            place.voice.update(done, total, _training_note(row))

        if self.launch is not None:
            place.voice.say(self.spec.config.describe())
            summary = train_in_processes(self.spec, self.launch, should_stop=place.should_stop, on_progress=on_progress)
        else:
            from trainers.train import train

            summary = train(
                **self.spec.arguments(),
                should_stop=place.should_stop,
                on_progress=on_progress,
                on_note=place.voice.say,
                on_warning=lambda text: place.voice.warn(self._named(text)),
            ).summary()
        checkpoint = locate(str(folder / "checkpoint"), trust_remote_code=self.spec.trust_remote_code)
        return {
            **summary,
            "warnings": [self._named(text) for text in summary["warnings"]],
            "model": checkpoint.describe(),
        }

    def _named(self, warning: str) -> str:
        """A warning as it stands beside those of other trainings."""
        return f"{self.spec.name}: {warning}"


@dataclass(frozen=True)
class EvaluationJob:
    """One model on one column.

    Attributes:
        suite: Name of the suite.
        task: The column's task in lm-eval.
        limit: First documents of each task; None for all.
        data_root: Offline mirror; None for the Hub.
        engine: As of :func:`~smaug_eval.engines.build_engine`, like all that follows.
        checkpoint: Folder of the model.
        dtype: Precision.
        batch_size: Sequences per forward pass.
        device: torch device.
        engine_args: Further arguments.
        journal: Folder of the journal.
        trust_remote_code: Whether code that comes with the model may run.
    """

    suite: str
    task: str
    limit: int | None
    data_root: Path | None
    engine: str
    checkpoint: Path
    dtype: str
    batch_size: int | str
    device: str | None
    engine_args: Mapping[str, Any]
    journal: Path
    trust_remote_code: bool

    @property
    def model(self) -> str:
        """The engine and what it is loaded with."""
        return f"{self.engine} {self.checkpoint} {self.dtype} {self.device} {sorted(self.engine_args.items())}"

    @property
    def divisible(self) -> bool:
        """Whether several processes can each do a share: our own engines tell what they have answered."""
        return self.engine in OWN_ENGINES and int(self.engine_args.get("data_parallel_size", 1)) == 1

    def perform(self, folder: Path, place: Workplace, credit: Credit | None = None) -> Mapping[str, Any]:
        """Evaluate; see :class:`Job`.

        Args:
            folder: Receives lm-eval's files.
            place: Where it is done.
            credit: What shares of it have brought.
        """
        suite, column = self._column()
        return evaluate_column(
            self._loaded(place),
            suite,
            column,
            limit=self.limit,
            data_root=self.data_root,
            out_dir=folder,
            report=place.voice.update,
            credit=credit,
        )

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
        )

    def _column(self) -> tuple[Suite, Column]:
        suite = find_suite(self.suite)
        (column,) = suite.select([self.task])
        return suite, column

    def _loaded(self, place: Workplace) -> LoadedEngine:
        return place.pool.get(
            self.engine,
            self.checkpoint,
            dtype=self.dtype,
            batch_size=self.batch_size,
            device=self.device,
            engine_args=self.engine_args,
            journal=self.journal,
            trust_remote_code=self.trust_remote_code,
            relay=place.relay,
        )


@dataclass(frozen=True)
class AnswersJob:
    """One model's answers to a question set.

    Attributes:
        config: The recipe's entry.
        seed: Where the entry has none.
        dtype: Precision.
        name: The model's.
        checkpoint: The model, or its folder where it is still to be made.
        trust_remote_code: Whether code that comes with the model may run.
    """

    config: MtBenchConfig
    seed: int
    dtype: str
    name: str
    checkpoint: Checkpoint | Path
    trust_remote_code: bool

    @property
    def model(self) -> str:
        """The engine and what it is loaded with."""
        path = self.checkpoint if isinstance(self.checkpoint, Path) else self.checkpoint.path
        config = self.config
        return f"dialogues {config.engine} {path} {self.dtype} {config.device} {sorted(config.engine_args.items())}"

    def perform(self, folder: Path, place: Workplace) -> Mapping[str, Any]:
        """Answer; see :class:`Job`."""
        trusted = self.trust_remote_code
        answering = Answering(
            self.config, seed=self.seed, dtype=self.dtype, reporter=place.voice, trust_remote_code=trusted
        )
        checkpoint = self.checkpoint
        if isinstance(checkpoint, Path):
            checkpoint = locate(str(checkpoint), trust_remote_code=trusted)
        return answering.answer(folder, self.name, checkpoint, place.pool)


def _training_note(row: Mapping[str, float]) -> str:
    if not row:
        return "scoring the reference"
    shown = {"loss": "loss", "log_ratios/chosen": "chosen", "log_ratios/rejected": "rejected"}
    return "  ".join(f"{label} {row[key]:+.2f}" for key, label in shown.items() if key in row)
