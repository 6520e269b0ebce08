"""Evaluate one model on one column of a suite through lm-eval, and keep the result and sample files it writes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from smaug_eval.common.digests import sha256_of_each
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import canonical_json, sha256_of_text
from smaug_eval.common.hub_cache import commit_of
from smaug_eval.engines.decoding_rules import Decoding
from smaug_eval.engines.pool import LoadedEngine
from smaug_eval.engines.sampled import ThoughtCounts, decoded
from smaug_eval.engines.shares import Credit, Share
from smaug_eval.engines.watch import ProgressCallback
from smaug_eval.leaderboard.chance import chance_notes
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.lm_eval.catalog import manager_of
from smaug_eval.leaderboard.lm_eval.suite import LmEvalSuite
from smaug_eval.leaderboard.orders import DocumentNumbers, Documents, prompts_of_all
from smaug_eval.leaderboard.protocol import data_revisions
from smaug_eval.leaderboard.repeats import generates, merged, repeat_notes
from smaug_eval.leaderboard.suite import Suite


class Prompting(NamedTuple):
    """Hold how a suite's prompts are put to a model that has a chat template.

    Attributes:
        template: Whether they are put into it; a name where the tokenizer has several.
        multiturn: Whether each shot is a question and an answer of its own.
    """

    template: bool | str = False
    multiturn: bool = False


NO_CHAT = Prompting()


def evaluate_column(
    engine: LoadedEngine,
    suite: Suite,
    column: Column,
    *,
    limit: float | None,
    data_root: Path | None,
    out_dir: Path,
    report: ProgressCallback,
    credit: Credit | None = None,
    prompting: Prompting = NO_CHAT,
    decoding: Decoding | None = None,
    documents: Documents | None = None,
    recorded: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a model on one column.

    Args:
        engine: The model.
        suite: The suite the column belongs to.
        column: What to measure; MMLU's is a group of 57 tasks.
        limit: First documents of each task in protocol order, or the share of them if below 1; None for all.
        data_root: Offline mirror; None for the Hub.
        out_dir: Receives ``results_<date>.json``, in which ``data_revisions`` are the Hub's commits of the data, and
            ``samples_<task>_<date>.jsonl``.
        report: Receives progress.
        credit: What other processes have done of it, for the counts of tokens.
        prompting: Whether prompts become chats; only of a suite that takes them.
        decoding: How answers are written, where that is not greedily and at once: with reasoning that is taken away,
            sampled, several times each.
        documents: Those to score; all where None.
        recorded: What to write into the results file beside the results.

    Returns:
        Documents scored, requests, truncated prompts, tokens requested and computed (our own engines), the Hub's
        commits of the data, notes that belong beside every score of the column, the same as warnings, and a digest of
        the samples.

    Raises:
        SmaugError: lm-eval could not write its files, or the model's context has no room for a prompt and an answer.
    """
    from lm_eval.loggers import EvaluationTracker

    _check_room(engine, column)
    _collect_environment_once()
    _remove(out_dir, ("results_*.json", "samples_*.jsonl"))  # of an attempt that did not finish
    engine.watch.start(report)
    if hasattr(engine.watch.lm, "taken"):
        engine.watch.lm.taken, engine.watch.lm.credit = None, credit or Credit()
    tracker = EvaluationTracker(output_path=str(out_dir / "results.json"))
    counts = ThoughtCounts()
    asked = (suite, column, limit, data_root, tracker, prompting, documents)
    results, commits = _repeated(engine, decoding, counts, *asked)
    samples = results.pop("samples")
    results["data_revisions"] = commits
    if (commit := commit_of(Path(engine.arguments["pretrained"]))) is not None:
        results["config"] |= {"model_sha": commit, "model_revision": commit}  # lm-eval asks for a folder's, in vain
    if decoding is not None:
        results["decoding"] = asdict(decoding)
    results |= recorded or {}
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    _check_written(out_dir, {task: len(rows) for task, rows in samples.items()})
    notes = [f"not the official data: {note}" for note in suite.data_notes(column, data_root)]
    notes += _decoding_notes(results, decoding, counts)
    if engine.watch.truncated:
        share = f"{engine.watch.truncated:,} of {engine.watch.requests:,}"
        notes.append(f"{share} prompts truncated (the model's context holds {engine.watch.lm.max_length:,} tokens)")
    if getattr(engine.watch.lm, "served_name", None) is not None:
        notes += chance_notes(results["configs"], samples)
    return {
        # A task with several filters logs every document once per filter.
        "documents": sum(len({row["doc_id"] for row in rows}) for rows in samples.values()),
        "requests": engine.watch.requests,
        "truncated": engine.watch.truncated,
        "tokens": _tokens(engine.watch.lm),
        "data_revisions": commits,
        **({"thinking": asdict(counts)} if decoding is not None and decoding.thinking is not None else {}),
        **({"repeats": results["repeats"]} if results.get("repeats") else {}),
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
    limit: float | None,
    data_root: Path | None,
    report: ProgressCallback,
    prompting: Prompting = NO_CHAT,
    decoding: Decoding | None = None,
) -> None:
    """Answer a share of a column's requests, of whatever kinds, for the journal only.

    Args:
        engine: One of our own, with a journal.
        suite: As of :func:`evaluate_column`, like ``column``, ``limit``, ``data_root`` and ``report``.
        column: As there.
        share: Which requests.
        limit: As there.
        data_root: As there.
        report: As there.
        prompting: As there.
        decoding: As there.
    """
    _check_room(engine, column)
    lm: Any = engine.watch.lm
    engine.watch.start(report)
    lm.share, lm.credit = share, Credit()
    try:
        for repeat in range(1 if decoding is None else decoding.repeats):
            written = contextlib.nullcontext() if decoding is None else decoded(lm, decoding, repeat, ThoughtCounts())
            with written, _unscored(), contextlib.suppress(_AllAsked):
                _ask(engine, suite, column, limit, data_root, None, prompting)
            if not engine.watch.generations:  # the same each time
                break
    finally:
        lm.share = None


class _AllAsked(BaseException):
    """All requests of lm-eval's tasks have been put to the model; no error, so that nothing takes it for one."""


@contextlib.contextmanager
def _unscored() -> Iterator[None]:
    """End lm-eval's work where it would begin to score: filters are what it applies first."""
    from lm_eval.api.task import ConfigurableTask, Task

    originals = {kind: kind.apply_filters for kind in (Task, ConfigurableTask)}

    def end(_: Any) -> None:
        raise _AllAsked

    for kind in originals:
        kind.apply_filters = end
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.apply_filters = original


def document_samples(
    engine: LoadedEngine,
    suite: Suite,
    column: Column,
    documents: Documents,
    *,
    data_root: Path | None,
    report: ProgressCallback,
    prompting: Prompting = NO_CHAT,
) -> dict[str, list[dict[str, Any]]]:
    """Score a model on some documents of a column, and return what lm-eval logs of each.

    Args:
        engine: The model; one with a journal, so that nothing is lost.
        suite: As of :func:`evaluate_column`, like ``column``, ``data_root``, ``report`` and ``prompting``.
        column: As there.
        documents: Those to score.
        data_root: As there.
        report: As there.
        prompting: As there.

    Returns:
        Task to its samples; of a group's tasks that are not asked for, those of their first document.
    """
    _check_room(engine, column)
    engine.watch.start(report)
    results, _ = _ask(engine, suite, column, None, data_root, None, prompting, documents)
    samples: dict[str, list[dict[str, Any]]] = results["samples"]
    return samples


def _repeated(
    engine: LoadedEngine, decoding: Decoding | None, counts: ThoughtCounts, *asked: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """Ask as often as ``decoding`` says, and put what comes back together."""
    if decoding is None:
        return _ask(engine, *asked)
    runs: list[dict[str, Any]] = []
    commits: dict[str, str] = {}
    for repeat in range(decoding.repeats):
        with decoded(engine.watch.lm, decoding, repeat, counts):
            results, commits = _ask(engine, *asked)
        runs.append(results)
        if not generates(results):  # the same each time
            break
    return (merged(runs) if len(runs) > 1 else runs[0]), commits


def _decoding_notes(results: Mapping[str, Any], decoding: Decoding | None, counts: ThoughtCounts) -> list[str]:
    """What belongs beside scores of thinking or sampled answers."""
    if decoding is None:
        return []
    notes = repeat_notes(results.get("repeats", {}))
    if decoding.thinking is None or not counts.answers:
        return notes
    if counts.never_ended:
        share = f"{counts.never_ended:,} of {counts.answers:,}"
        notes.append(f"the reasoning of {share} answers never ended; they count as empty")
    if not counts.thought:
        notes.append(f"no answer holds reasoning that ends with {decoding.thinking.end!r}: is this the model's marker?")
    return notes


def _ask(
    engine: LoadedEngine,
    suite: Suite,
    column: Column,
    limit: float | None,
    data_root: Path | None,
    tracker: Any,
    prompting: Prompting,
    documents: Documents | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Let lm-eval put a column's requests to a model; its results, and the Hub's commits of the data."""
    from lm_eval import simple_evaluate

    commits = suite.commits(column, data_root)
    reading, options = _options(suite, column, data_root, commits)
    tasks, some = [column.task], {}
    if documents is not None:
        # lm-eval takes a task without numbers for one that is asked in full.
        if column.reported:  # asked as a whole: it may ask its tasks otherwise than alone
            documents = {**{leaf.name: [0] for leaf in column.leaves}, **documents}
        elif len(documents) < len(column.leaves):
            tasks = list(documents)
        some = {"samples": {task: DocumentNumbers(numbers) for task, numbers in documents.items()}}
    with reading, prompts_of_all() if documents is not None else contextlib.nullcontext():
        results: dict[str, Any] = simple_evaluate(
            model=engine.watch.lm,
            model_args=dict(engine.arguments),
            tasks=tasks,
            limit=limit,
            **some,
            evaluation_tracker=tracker,
            **(
                {"apply_chat_template": prompting.template, "fewshot_as_multiturn": prompting.multiturn}
                if suite.takes_chat
                else {}
            ),
            **options,
        )
    return results, data_revisions(commits.items())


def _check_room(engine: LoadedEngine, column: Column) -> None:
    """Refuse a column whose answers alone fill the model's context."""
    room = engine.watch.lm.max_length
    limits = [getattr(leaf, "generation", None) for leaf in column.leaves]
    most = max((each.max_new_tokens for each in limits if each is not None), default=0)
    if most >= room:
        raise SmaugError(
            f"{column.title}: answers have up to {most:,} tokens, and the model's context holds {room:,} in all",
            fix="leave this task out for this model",
        )


def _options(
    suite: Suite, column: Column, data_root: Path | None, commits: dict[str, str]
) -> tuple[contextlib.AbstractContextManager[None], dict[str, Any]]:
    """Within what lm-eval reads the data of a suite, and what it is told of its tasks."""
    from smaug_eval.leaderboard.lm_eval.loading import reading_tasks
    from smaug_eval.leaderboard.lm_eval_data import reading_at

    if isinstance(suite, LmEvalSuite):
        definitions = [loaded.definition for loaded in suite.loaded.values()]
        reading = reading_tasks(data_root, commits, definitions)
        return reading, {**suite.settings.options(), "task_manager": suite.manager()}
    if suite.folder is not None:  # shots are part of the documents
        return contextlib.nullcontext(), {"task_manager": _tasks_of(suite, data_root)}
    options = {"num_fewshot": column.leaves[0].num_fewshot, "task_manager": _lm_evals_tasks()}
    return reading_at(data_root, commits), options


def _tasks_of(suite: Suite, data_root: Path | None) -> Any:
    """Return the tasks in a suite's folder, which are told where their data are."""
    from lm_eval.tasks import TaskManager

    metadata = {"data_root": str(data_root)} if data_root else {}
    return TaskManager(include_path=str(suite.folder), include_defaults=False, metadata=metadata)


@cache
def _lm_evals_tasks() -> Any:
    """Return the tasks that come with lm-eval; to list these thousands takes it many seconds."""
    return manager_of(None)


def _tokens(lm: Any) -> dict[str, Any]:
    """Return what one of our own engines saved: tokens of the requests, and of those how many were computed."""
    taken = getattr(lm, "taken", None)
    return {} if taken is None else {**asdict(taken), "saved": round(taken.saved, 4)}


@cache
def _collect_environment_once() -> None:
    """Collect the environment once in a process: lm-eval runs pip to list it for every result file."""
    from torch.utils import collect_env

    collect_env.get_pretty_env_info = cache(collect_env.get_pretty_env_info)


def _remove(folder: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()


def _check_written(folder: Path, lines: Mapping[str, int]) -> None:
    """Check that a result file was written; lm-eval logs a failed write and continues, a run must not."""
    complete = len(list(folder.glob("results_*.json"))) == 1
    names = [file.name for file in folder.glob("samples_*.jsonl")]
    for task, count in lines.items():
        # Not of a task whose name goes on where this one's ends.
        files = [name for name in names if re.fullmatch(rf"samples_{re.escape(task)}_\d{{4}}-[^_]*\.jsonl", name)]
        complete = complete and len(files) == 1 and _lines(folder / files[0]) == count
    if not complete:
        raise SmaugError(
            f"lm-eval's result files in {folder} are incomplete", fix="is the disk full? free it, run again"
        )


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
