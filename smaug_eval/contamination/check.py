"""Check a model for contamination: the flagged share of a benchmark's documents, task by task.

The reference model and the examined one are loaded one after the other. What each has answered is kept in journals:
neighbours are drawn once, whatever models are examined afterwards, and an interrupted check continues.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from smaug_eval._version import __version__
from smaug_eval.common.console import Reporter
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import sha256_of_text
from smaug_eval.contamination import score
from smaug_eval.contamination.examples import Example, column_examples
from smaug_eval.contamination.published import PUBLISHED
from smaug_eval.engines.build import check_device
from smaug_eval.engines.journal import Journal, versions
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.protocol import data_revisions
from smaug_eval.leaderboard.suite import Suite
from smaug_eval.leaderboard.suite_data import short_name
from smaug_eval.models.checkpoint import Checkpoint, locate
from smaug_eval.models.loading import check_model as check_weights_of
from smaug_eval.models.quantised import Use
from smaug_eval.models.quiet import quiet_transformers
from smaug_eval.stats import wilson_interval
from smaug_eval.trainers.pairs.stats import load_tokenizer

if TYPE_CHECKING:
    from smaug_eval.engines.torch_engine import TorchEngine

EXAMPLES = 100
"""Documents that the tool takes of each task."""
MARKS = (0.85, 0.9)
"""Flagged shares above which two versions of the tool's README call it highly likely that a data set was trained on."""

CheckedTask = tuple[Suite, Column, Sequence[Example]]


@dataclass(frozen=True)
class CheckSettings:
    """Configure the check.

    Attributes:
        limit: Documents of each task; all if None.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for each checkpoint's own.
        batch_size: Neighbours drawn at a time.
        seed: Of the draws.
        device: torch device; None for the best there is.
        engine_args: Further arguments of lm-eval's ``hf`` model, such as ``parallelize``.
    """

    limit: int | None = EXAMPLES
    dtype: str = "auto"
    batch_size: int = score.NEIGHBOURS
    seed: int = 0
    device: str | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not (name == "limit" and value is None) and (not isinstance(value, int) or value < least):
                raise SmaugError(f"{name} is {value!r}", fix=f"give a whole number, {least} or more")
        if not isinstance(self.engine_args, Mapping):
            raise SmaugError(f"engine_args is {self.engine_args!r}", fix="give engine_args.<name>=<value>")


def check_settings(values: Mapping[str, Any]) -> CheckSettings:
    """Return the settings from plain data.

    Raises:
        SmaugError: a name is not a setting, or a value is out of range.
    """
    known = [each.name for each in dataclasses.fields(CheckSettings)]
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise SmaugError(f"there is no setting {unknown[0]!r}", fix=f"the settings are {', '.join(known)}")
    return CheckSettings(**values)


def check_model(
    model: str,
    reference: str,
    *,
    suite: Suite,
    tasks: Sequence[str] | None,
    settings: CheckSettings,
    data_root: Path | None,
    journals: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    """Flag the documents that a model finds more likely than a reference model's continuations of their beginnings.

    See :mod:`smaug_eval.contamination.score` for the score.

    Args:
        model: The examined model: folder, Hub id or ``embedded:demo-model``.
        reference: The reference model, in the same forms.
        suite: Where the tasks are.
        tasks: Columns of the suite; all if None.
        settings: How to check.
        data_root: Offline mirror; None for the Hub.
        journals: Folder for what has been computed.
        reporter: Shows progress.

    Returns:
        Plain data.

        - ``notes``: what makes the numbers mean nothing, as text.
        - ``model``, ``reference``: the checkpoints; ``method``: the numbers behind the score; ``marks``: ``MARKS``.
        - ``data_revisions``: the Hub's commits of the benchmarks, by data set.
        - ``tasks``: for each ``task`` (short name), ``title``, ``n``, ``flagged``, ``share`` with Wilson's 95%
          ``interval``, ``threshold``, ``mean_score``, ``mean_loss`` (nats per token), ``notes`` on the data, and
          ``documents``: the ``row`` of each, its ``score`` and ``loss``.
        - ``published``: published shares of the same tasks, see :mod:`smaug_eval.contamination.published`.

    Raises:
        SmaugError: a model, a task or the data cannot be used.
    """
    check_device(settings.device)
    suite, uses = suite.pinned(tasks, data_root), [Use.TORCH]
    examined, base = locate(model, uses=uses), locate(reference, uses=uses)
    for each in (examined, base):
        check_weights_of(each.source, each.path, uses)
    chosen = [
        (suite, column, column_examples(suite, column, data_root, settings.limit)) for column in suite.select(tasks)
    ]
    for _, column, examples in chosen:
        if not examples:
            raise SmaugError(f"{column.task} has no document to check", fix="use the complete split")
    drawing = _drawing_scope(base, settings)
    with quiet_transformers(), _engines() as pool:
        neighbours = _neighbours(pool, base, drawing, chosen, settings, journals, reporter)
        compared = _compared(pool, examined, drawing, chosen, neighbours, settings, journals, reporter)
    found = [_task_result(task, compared, data_root) for task in chosen]
    names = {task["task"] for task in found}
    notes = _notes(examined, base)
    for note in notes:
        reporter.warn(note)
    return {
        "notes": notes,
        "model": examined.describe(),
        "reference": base.describe(),
        "method": {**_method(), "seed": settings.seed},
        "marks": list(MARKS),
        "data_revisions": data_revisions(
            each for _, column, _ in chosen for each in suite.commits(column, data_root).items()
        ),
        "tasks": found,
        "published": [row.as_dict() for row in PUBLISHED if names & row.shares.keys()],
    }


def _notes(examined: Checkpoint, base: Checkpoint) -> list[str]:
    """What makes the numbers mean nothing, as text."""
    if examined.sha256 != base.sha256:
        return []
    return [
        f"{examined.source} is examined against itself: the shares say how likely it finds its own continuations, and "
        "mean nothing for what it was trained on; give the model that it was made from, or another, as the reference"
    ]


def _neighbours(
    pool: EnginePool,
    base: Checkpoint,
    scope: Mapping[str, Any],
    tasks: Sequence[CheckedTask],
    settings: CheckSettings,
    journals: Path,
    reporter: Reporter,
) -> dict[str, list[str]]:
    """Neighbours of every text, drawn by the reference model or recalled."""

    def work(engine: TorchEngine, tokenizer: Any, text: str) -> list[str]:
        return score.draw_neighbours(engine, tokenizer, text, seed=settings.seed, batch_size=settings.batch_size)

    with _opened(journals / "neighbours", scope) as journal:
        return _answers(pool, base, journal, tasks, work, settings, reporter, f"neighbours from {base.source}")


def _compared(
    pool: EnginePool,
    examined: Checkpoint,
    drawing: Mapping[str, Any],
    tasks: Sequence[CheckedTask],
    neighbours: Mapping[str, list[str]],
    settings: CheckSettings,
    journals: Path,
    reporter: Reporter,
) -> dict[str, score.NeighbourComparison]:
    """Every text among its neighbours, by the examined model or recalled."""

    def work(engine: TorchEngine, tokenizer: Any, text: str) -> dict[str, Any]:
        return dataclasses.asdict(score.compare(engine, tokenizer, text, neighbours[text]))

    scope = {"neighbours": drawing, **_model_scope(examined, settings)}
    with _opened(journals / "comparisons", scope) as journal:
        found = _answers(pool, examined, journal, tasks, work, settings, reporter, f"losses of {examined.source}")
    return {text: score.NeighbourComparison(**values) for text, values in found.items()}


def _answers(
    pool: EnginePool,
    checkpoint: Checkpoint,
    journal: Journal,
    tasks: Sequence[CheckedTask],
    work: Callable[[TorchEngine, Any, str], Any],
    settings: CheckSettings,
    reporter: Reporter,
    what: str,
) -> dict[str, Any]:
    """What ``work`` gives for every text; a model is loaded only if the journal lacks an answer."""
    found: dict[str, Any] = {}
    for suite, column, examples in tasks:
        with reporter.stage(f"{short_name(suite, column)}: {what}"):
            for done, example in enumerate(examples):
                reporter.update(done, len(examples))
                key = sha256_of_text(example.text)
                if key not in journal:
                    engine, tokenizer = _loaded(pool, checkpoint, settings)
                    journal.add({key: work(engine, tokenizer, example.text)})
                found[example.text] = journal[key]
    return found


def _loaded(pool: EnginePool, checkpoint: Checkpoint, settings: CheckSettings) -> tuple[TorchEngine, Any]:
    dtype = _dtype(checkpoint, settings)
    loaded = pool.get(
        EngineSpec(
            "torch",
            checkpoint.path,
            dtype,
            settings.batch_size,
            settings.device,
            settings.engine_args,
            adapter=checkpoint.adapter,
        )
    )
    return cast("TorchEngine", loaded.watch.lm), _tokenizer(checkpoint.path)


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> Any:
    """A checkpoint's tokenizer with its own habits; the engine's never adds a BOS, as the leaderboard's did not."""
    return load_tokenizer(str(folder))


def _dtype(checkpoint: Checkpoint, settings: CheckSettings) -> str:
    return checkpoint.dtype if settings.dtype == "auto" else settings.dtype


def _model_scope(checkpoint: Checkpoint, settings: CheckSettings) -> dict[str, Any]:
    """All that decides a model's numbers but for the question."""
    import torch

    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "checkpoint": checkpoint.sha256_with_tokenizer,
        "dtype": _dtype(checkpoint, settings),
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device,
        "engine_args": dict(settings.engine_args),
        "versions": {"smaug-eval": __version__, **versions("torch", "transformers")},
    }


def _drawing_scope(base: Checkpoint, settings: CheckSettings) -> dict[str, Any]:
    drawn = {"seed": settings.seed, "batch_size": settings.batch_size}
    return {**_model_scope(base, settings), "method": _method(), **drawn}


def _method() -> dict[str, Any]:
    return {
        "words_kept": score.KEPT,
        "neighbours": score.NEIGHBOURS,
        "top_k": score.TOP_K,
        "neighbour_tokens": score.MOST_TOKENS,
    }


def _task_result(
    task: CheckedTask, compared: Mapping[str, score.NeighbourComparison], data_root: Path | None
) -> dict[str, Any]:
    suite, column, examples = task
    found = [compared[example.text] for example in examples]
    n, flagged = len(found), sum(each.flagged for each in found)
    return {
        "task": short_name(suite, column),
        "title": column.title,
        "n": n,
        "flagged": flagged,
        "share": flagged / n,
        "interval": list(wilson_interval(flagged / n, n)),
        "threshold": score.THRESHOLD,
        "mean_score": sum(each.score for each in found) / n,
        "mean_loss": sum(each.loss for each in found) / n,
        "notes": suite.data_notes(column, data_root),
        "documents": [
            {"row": example.row, "score": each.score, "loss": each.loss}
            for example, each in zip(examples, found, strict=True)
        ],
    }


@contextmanager
def _engines() -> Iterator[EnginePool]:
    pool = EnginePool()
    try:
        yield pool
    finally:
        pool.close()


@contextmanager
def _opened(folder: Path, scope: Mapping[str, Any]) -> Iterator[Journal]:
    journal = Journal(folder, scope)
    try:
        yield journal
    finally:
        journal.close()
