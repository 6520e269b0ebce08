"""One model on one column of a suite, through lm-eval; its result and sample files are kept as lm-eval writes them."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from smaug_eval.digests import sha256_of_each
from smaug_eval.engines import Watch, build_engine, set_batch_size
from smaug_eval.engines.journal import Relay
from smaug_eval.engines.shares import Credit, Share, ShareDone
from smaug_eval.engines.watch import ProgressCallback
from smaug_eval.errors import SmaugError
from smaug_eval.files import canonical_json, sha256_of_text
from smaug_eval.leaderboard.suite import Column, Suite
from smaug_eval.redaction import redacted_values


@dataclass(frozen=True)
class LoadedEngine:
    """A model in memory.

    Attributes:
        watch: The lm-eval model under observation.
        arguments: What it was loaded with, for lm-eval's result files.
    """

    watch: Watch
    arguments: Mapping[str, Any]


class EnginePool:
    """Keeps the model used last in memory, so that consecutive tasks load it once."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._loaded: LoadedEngine | None = None

    def get(
        self,
        engine: str,
        checkpoint: Path,
        *,
        dtype: str,
        batch_size: int | str,
        device: str | None,
        engine_args: Mapping[str, Any],
        journal: Path | None = None,
        trust_remote_code: bool = False,
        relay: Relay | None = None,
    ) -> LoadedEngine:
        """The engine for these settings; another one is unloaded first.

        Args:
            engine: As of :func:`~smaug_eval.engines.build_engine`.
            checkpoint: As there.
            dtype: As there.
            batch_size: As there.
            device: As there.
            engine_args: As there.
            journal: Folder in which our own engines keep finished answers, so that nothing is computed twice.
            trust_remote_code: As of :func:`~smaug_eval.engines.build_engine`.
            relay: Where they send finished answers, if it is another process that writes the journal.

        Raises:
            SmaugError: the model cannot be loaded.
        """
        settings = {"dtype": dtype, "batch_size": batch_size, "device": device, "engine_args": dict(engine_args)}
        if trust_remote_code:
            settings["trust_remote_code"] = True
        key = canonical_json([engine, str(checkpoint), {**settings, "batch_size": None}])
        if self._loaded is None or key != self._key:
            self.close()
            lm = build_engine(engine, checkpoint, **settings)  # type: ignore[arg-type]
            arguments = {
                "pretrained": str(checkpoint),
                "engine": engine,
                "dtype": dtype,
                "add_bos_token": False,
                **({"trust_remote_code": True} if trust_remote_code else {}),
                **redacted_values(engine_args),
            }
            self._key, self._loaded = key, LoadedEngine(Watch(lm), arguments)
        set_batch_size(self._loaded.watch.lm, batch_size)
        if hasattr(self._loaded.watch.lm, "keep_journal"):  # one of our own
            self._loaded.watch.lm.keep_journal(journal, relay)
        return self._loaded

    @property
    def computed(self) -> int:
        """Tokens that one of our own engines has computed for its present work."""
        return 0 if self._loaded is None else int(getattr(self._loaded.watch.lm, "computed", 0))

    def close(self) -> None:
        """Free the model, its memory, and the processes that vLLM started for it."""
        if self._loaded is None:
            return
        import torch

        if hasattr(self._loaded.watch.lm, "close_journal"):
            self._loaded.watch.lm.close_journal()
        engine = getattr(getattr(self._loaded.watch.lm, "model", None), "llm_engine", None)
        if engine is not None:
            engine.engine_core.shutdown()
        self._key = self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def short_name(suite: Suite, column: Column) -> str:
    """A column's name in folders and messages: its lm-eval task without the suite's prefix."""
    return column.task.removeprefix(f"{suite.name}_")


def data_fingerprints(column: Column, suite: Suite, data_root: Path | None) -> dict[str, str]:
    """A hash of the rows behind each leaf task: what is scored, and what shots are drawn from.

    Reading the rows is also the check that they are there and have the columns needed.

    Raises:
        SmaugError: they are not.
    """
    return {leaf.name: _rows_sha256(suite, leaf.name, data_root) for leaf in column.leaves}


@lru_cache(maxsize=256)
def _rows_sha256(suite: Suite, task: str, data_root: Path | None) -> str:
    return sha256_of_text(canonical_json(suite.rows(suite.task(task), data_root)))


def evaluate_column(
    engine: LoadedEngine,
    suite: Suite,
    column: Column,
    *,
    limit: int | None,
    data_root: Path | None,
    out_dir: Path,
    report: ProgressCallback,
    credit: Credit | None = None,
) -> dict[str, Any]:
    """Score a model on one column.

    Args:
        engine: The model.
        suite: The suite the column belongs to.
        column: What to measure; MMLU's is a group of 57 tasks.
        limit: First documents of each task in protocol order; None for all.
        data_root: Offline mirror; None for the Hub.
        out_dir: Receives ``results_<date>.json`` and ``samples_<task>_<date>.jsonl``.
        report: Receives progress.
        credit: What other processes have done of it, for the counts of tokens.

    Returns:
        Documents scored, requests, truncated prompts, tokens requested and computed (our own engines), the Hub's
        commits of the data, notes that belong beside every score of the column, the same as warnings, and a digest of
        the samples.

    Raises:
        SmaugError: lm-eval could not write its files.
    """
    from lm_eval.loggers import EvaluationTracker

    _collect_environment_once()
    _remove(out_dir, ("results_*.json", "samples_*.jsonl"))  # of an attempt that did not finish
    engine.watch.start(report)
    if hasattr(engine.watch.lm, "work"):
        engine.watch.lm.work, engine.watch.lm.credit = None, credit or Credit()
    tracker = EvaluationTracker(output_path=str(out_dir / "results.json"))
    results = _ask(engine, suite, column, limit, data_root, tracker)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    _check_written(out_dir, {task: len(rows) for task, rows in samples.items()})
    notes = [f"not the official data: {note}" for note in suite.data_notes(column, data_root)]
    if engine.watch.truncated:
        share = f"{engine.watch.truncated:,} of {engine.watch.requests:,}"
        notes.append(f"{share} prompts truncated (the model's context holds {engine.watch.lm.max_length:,} tokens)")
    return {
        # A task with several filters logs every document once per filter.
        "documents": sum(len({row["doc_id"] for row in rows}) for rows in samples.values()),
        "requests": engine.watch.requests,
        "truncated": engine.watch.truncated,
        "tokens": _tokens(engine.watch.lm),
        "data_revisions": _revisions(column) if suite.folder is not None and data_root is None else {},
        "notes": notes,
        "warnings": [f"{column.title}: {note}" for note in notes],
        "result": sha256_of_text(canonical_json(sorted(sha256_of_each(out_dir.glob("samples_*.jsonl")).values()))),
    }


def evaluate_share(
    engine: LoadedEngine,
    suite: Suite,
    column: Column,
    share: Share,
    *,
    limit: int | None,
    data_root: Path | None,
    report: ProgressCallback,
) -> None:
    """Answer a share of a column's requests, for the journal only.

    Args:
        engine: One of our own, with a journal.
        suite: As of :func:`evaluate_column`, like ``column``, ``limit``, ``data_root`` and ``report``.
        column: As there.
        share: Which requests.
        limit: As there.
        data_root: As there.
        report: As there.
    """
    lm: Any = engine.watch.lm
    engine.watch.start(report)
    lm.share, lm.credit = share, Credit()
    try:
        _ask(engine, suite, column, limit, data_root, None)
    except ShareDone:
        return
    finally:
        lm.share = None


def _ask(
    engine: LoadedEngine, suite: Suite, column: Column, limit: int | None, data_root: Path | None, tracker: Any
) -> dict[str, Any]:
    """Let lm-eval put a column's requests to a model."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from smaug_eval.hub_mirror import hub_from_mirror

    own = suite.folder is not None
    with hub_from_mirror(None if own else data_root):
        results: dict[str, Any] = simple_evaluate(
            model=engine.watch.lm,
            model_args=dict(engine.arguments),
            tasks=[column.task],
            num_fewshot=None if own else column.leaves[0].num_fewshot,  # those of our own are part of the documents
            limit=limit,
            task_manager=TaskManager(
                include_path=str(suite.folder) if own else None,
                include_defaults=not own,
                metadata={"data_root": str(data_root)} if data_root and own else {},
            ),
            evaluation_tracker=tracker,
        )
    return results


def _tokens(lm: Any) -> dict[str, Any]:
    """What one of our own engines saved: tokens of the requests, and of those how many were computed."""
    work = getattr(lm, "work", None)
    return {} if work is None else {**asdict(work), "saved": round(work.saved, 4)}


def _revisions(column: Column) -> dict[str, str]:
    """The commits at which the Hub's data sets behind a column are read."""
    splits = [split for leaf in column.leaves for split in (leaf.evaluated, leaf.shots) if split is not None]
    return {split.hub_id: split.revision for split in splits if split.revision is not None}


@cache
def _collect_environment_once() -> None:
    """lm-eval lists the environment for every result file, by running pip; it stays the same within a process."""
    from torch.utils import collect_env

    collect_env.get_pretty_env_info = cache(collect_env.get_pretty_env_info)


def _remove(folder: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()


def _check_written(folder: Path, lines: Mapping[str, int]) -> None:
    """lm-eval logs a failed write and goes on; a run must not."""
    complete = len(list(folder.glob("results_*.json"))) == 1
    for task, count in lines.items():
        files = list(folder.glob(f"samples_{task}_*.jsonl"))
        complete = complete and len(files) == 1 and _lines(files[0]) == count
    if not complete:
        raise SmaugError(
            f"lm-eval's result files in {folder} are incomplete", fix="is the disk full? free it, run again"
        )


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
