"""The contamination check of a model: the flagged share of a benchmark's documents, task by task.

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

from smaug_eval import __version__
from smaug_eval.console import Reporter
from smaug_eval.contamination import score
from smaug_eval.contamination.examples import Example, column_examples
from smaug_eval.contamination.published import PUBLISHED
from smaug_eval.engines.build import check_device
from smaug_eval.engines.journal import Journal, versions
from smaug_eval.errors import SmaugError
from smaug_eval.evaluation import EnginePool, short_name
from smaug_eval.files import sha256_of_text
from smaug_eval.leaderboard.suite import Column, Suite
from smaug_eval.models import Checkpoint, locate
from smaug_eval.stats import wilson_interval
from trainers.models import quiet_transformers
from trainers.pairs.stats import load_tokenizer

if TYPE_CHECKING:
    from smaug_eval.engines.torch_engine import TorchEngine

EXAMPLES = 100
"""Documents that the tool takes of each task."""
MARKS = (0.85, 0.9)
"""Flagged shares above which two versions of the tool's README call it highly likely that a data set was trained on."""

Task = tuple[Suite, Column, Sequence[Example]]


@dataclass(frozen=True)
class CheckSettings:
    """How to check.

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
    """Settings from plain data.

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
    """Flag the documents that a model finds likelier than what a reference model makes of their beginnings.

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

        - ``model``, ``reference``: the checkpoints; ``method``: the numbers behind the score; ``marks``: ``MARKS``.
        - ``tasks``: for each ``task`` (short name), ``title``, ``n``, ``flagged``, ``share`` with Wilson's 95%
          ``interval``, ``threshold``, ``mean_score``, ``mean_loss`` (nats per token), ``notes`` on the data, and
          ``documents``: the ``row`` of each, its ``score`` and ``loss``.
        - ``published``: published shares of the same tasks, see :mod:`smaug_eval.contamination.published`.

    Raises:
        SmaugError: a model, a task or the data cannot be used.
    """
    check_device(settings.device)
    chosen = [
        (suite, column, column_examples(suite, column, data_root, settings.limit)) for column in suite.select(tasks)
    ]
    for _, column, examples in chosen:
        if not examples:
            raise SmaugError(f"{column.task} has no document to check", fix="use the complete split")
    examined, base = locate(model), locate(reference)
    drawing = _drawing_scope(base, settings)
    with quiet_transformers(), _engines() as pool:
        neighbours = _neighbours(pool, base, drawing, chosen, settings, journals, reporter)
        compared = _compared(pool, examined, drawing, chosen, neighbours, settings, journals, reporter)
    found = [_task_result(task, compared, data_root) for task in chosen]
    names = {task["task"] for task in found}
    return {
        "model": examined.describe(),
        "reference": base.describe(),
        "method": {**_method(), "seed": settings.seed},
        "marks": list(MARKS),
        "tasks": found,
        "published": [row.as_dict() for row in PUBLISHED if names & row.shares.keys()],
    }


def _neighbours(
    pool: EnginePool,
    base: Checkpoint,
    scope: Mapping[str, Any],
    tasks: Sequence[Task],
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
    tasks: Sequence[Task],
    neighbours: Mapping[str, list[str]],
    settings: CheckSettings,
    journals: Path,
    reporter: Reporter,
) -> dict[str, score.Comparison]:
    """Every text among its neighbours, by the examined model or recalled."""

    def work(engine: TorchEngine, tokenizer: Any, text: str) -> dict[str, Any]:
        return dataclasses.asdict(score.compare(engine, tokenizer, text, neighbours[text]))

    scope = {"neighbours": drawing, **_model_scope(examined, settings)}
    with _opened(journals / "comparisons", scope) as journal:
        found = _answers(pool, examined, journal, tasks, work, settings, reporter, f"losses of {examined.source}")
    return {text: score.Comparison(**values) for text, values in found.items()}


def _answers(
    pool: EnginePool,
    checkpoint: Checkpoint,
    journal: Journal,
    tasks: Sequence[Task],
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
    loaded = pool.get(
        "torch",
        checkpoint.path,
        dtype=_dtype(checkpoint, settings),
        batch_size=settings.batch_size,
        device=settings.device,
        engine_args=settings.engine_args,
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
        "checkpoint": checkpoint.sha256,
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


def _task_result(task: Task, compared: Mapping[str, score.Comparison], data_root: Path | None) -> dict[str, Any]:
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
