"""List requests and tasks of benchmarks, read archived leaderboards, and reproduce their rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from smaug_eval.api.entries import run_name, text_or_none
from smaug_eval.api.running import run
from smaug_eval.common.arguments import PathLike, name_list, path_list, path_text
from smaug_eval.common.console import Reporter
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import with_revision
from smaug_eval.runs.mt_bench import answer_mt_bench as answer_mt_bench
from smaug_eval.runs.mt_bench import judge_mt_bench as judge_mt_bench
from smaug_eval.runs.mt_bench import score_mt_bench as score_mt_bench
from smaug_eval.runs.pipeline import DEFAULT_RUNS

if TYPE_CHECKING:
    from smaug_eval.leaderboard.chats import Chat


def dump_requests(
    out: PathLike | IO[bytes] | None = None,
    *,
    suite: str = "open_llm_v1",
    tasks: str | Sequence[str] | None = None,
    limit: int | None = None,
    data_root: PathLike | None = None,
    chat_template: PathLike | Callable[[list[dict[str, str]]], str] | None = None,
    fewshot_as_multiturn: bool = False,
) -> list[dict[str, Any]]:
    """Write every request of a suite in protocol order, one line per document.

    Args:
        out: File to write, compressed where it ends in ``.gz``, or an open binary stream; None only counts and hashes.
        suite: ``open_llm_v1``, ``open_llm_v2`` or ``demo``.
        tasks: Columns or single tasks such as ``mmlu_anatomy``; all if None.
        chat_template: Of ``open_llm_v2``, what prompts are put into: a Jinja file (``.jinja``), a model whose tokenizer
            has a template, or a function from messages to text; None for none.
        fewshot_as_multiturn: In a chat template, each shot is a question and an answer of its own.

    Returns:
        The fields of :class:`smaug_eval.leaderboard.dump.DumpedTask` per task as plain data.

    Raises:
        SmaugError: a name is unknown, data are missing or do not fit, the file cannot be written, or the suite takes no
            chat template.
    """
    from smaug_eval.leaderboard import dump
    from smaug_eval.leaderboard.registry import find_suite

    target = Path(out) if isinstance(out, str | os.PathLike) else out
    root = Path(data_root) if data_root else None
    chat = None if chat_template is None else _chat(chat_template, fewshot_as_multiturn)
    if chat is None and fewshot_as_multiturn:
        raise SmaugError("fewshot_as_multiturn makes turns of a chat", fix="name a chat_template, too")
    written = dump.dump_requests(
        find_suite(suite), name_list(tasks, "tasks") or None, limit=limit, data_root=root, out=target, chat=chat
    )
    return [asdict(each) for each in written]


def _chat(source: PathLike | Callable[[list[dict[str, str]]], str], multiturn: bool) -> Chat:
    """The chat that a file, a model or a function makes of messages."""
    from smaug_eval.leaderboard.chats import Chat, jinja_chat, read_template, tokenizer_chat
    from smaug_eval.trainers.pairs.stats import load_tokenizer

    if callable(source):
        return Chat(source, multiturn)
    if Path(source).suffix in (".jinja", ".jinja2", ".j2"):
        return jinja_chat(read_template(Path(source)), multiturn=multiturn)
    return tokenizer_chat(load_tokenizer(path_text(source, "chat_template")), multiturn=multiturn)


def list_tasks(word: str | None = None, *, include_path: PathLike | None = None) -> list[dict[str, Any]]:
    """Return the tasks, tags and groups that suite ``lm_eval`` takes, by name.

    Args:
        word: Part of a name, or a pattern such as ``mmlu_*``; all if None.
        include_path: A folder with task YAML of your own.

    Returns:
        The fields of :class:`smaug_eval.leaderboard.lm_eval.catalog.CatalogEntry` as plain data.

    Raises:
        SmaugError: there is no such folder, or no name has the word in it; the fix proposes the nearest.
    """
    from smaug_eval.leaderboard.lm_eval import catalog

    return catalog.list_tasks(word, None if include_path is None else Path(include_path))


def leaderboard_rows(suite: str = "open_llm_v1") -> list[dict[str, Any]]:
    """Return the rows of an archived leaderboard that we state as facts, with source and date.

    Args:
        suite: ``open_llm_v1`` or ``open_llm_v2``.
    """
    from smaug_eval.results import standings

    return standings.leaderboard_rows(suite)


def rank(paths: PathLike | Sequence[PathLike], archive: PathLike, *, include_flagged: bool = False) -> dict[str, Any]:
    """Return where runs and lm-eval results would have ranked on the archived leaderboard; see :func:`standings.rank`.

    Args:
        paths: Run directories, folders or files of lm-eval results; empty: only the archive is described.
        archive: The leaderboard's rows as CSV, or CSV compressed with gzip.
        include_flagged: Also rank against the models the leaderboard flagged.

    Raises:
        SmaugError: the archive or a path cannot be used.
    """
    from smaug_eval.results import standings

    return standings.rank(path_list(paths, "paths"), Path(archive), include_flagged=include_flagged)


def leaderboard_page(
    paths: PathLike | Sequence[PathLike] = (),
    out: PathLike = "leaderboard.html",
    *,
    archive: PathLike | None = None,
    include_flagged: bool = False,
    title: str | None = None,
) -> Path:
    """Write a page of the archived leaderboard with runs among its rows, or an index of runs.

    Args:
        paths: Run directories, folders of run directories, folders or files of lm-eval results.
        out: The page.
        archive: The leaderboard's rows as CSV, or CSV compressed with gzip; if None, the page is an index of the runs.
        include_flagged: Also rank against the models the leaderboard flagged.
        title: Its heading.

    Returns:
        ``out``.

    Raises:
        SmaugError: the archive or a path cannot be used, or there is nothing to show.
    """
    from smaug_eval.reports.board import build_board

    return build_board(
        path_list(paths, "paths"),
        Path(path_text(out, "out")),
        archive_file=None if archive is None else Path(archive),
        include_flagged=include_flagged,
        title=title,
    )


def reproduce(
    model: PathLike,
    *,
    suite: str = "open_llm_v1",
    against: str | None = None,
    tasks: str | Sequence[str] | None = None,
    limit: int | None = None,
    dtype: str | None = None,
    model_revision: str | None = None,
    archive: PathLike | None = None,
    data_root: PathLike | None = None,
    name: str | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measure a model as the leaderboard did, and report per column whether its published row is reproduced.

    Args:
        suite: Of which leaderboard: ``open_llm_v1`` or ``open_llm_v2``.
        against: Hub id of the published row, or ``id@commit``; the model's own if None.
        dtype: Precision; the published row's if None.
        archive: Rows of the leaderboard beyond those we keep (CSV, CSV.gz).
        **settings: Further keys of the evaluation, as in a recipe (``engine="vllm"``, ``batch_size=16``).

    Returns:
        What ``reproduction.json`` in the run directory holds; see :func:`smaug_eval.runs.reproduction.judge_run`.

    Raises:
        Interrupted: stopped; the same call continues.
        SmaugError: there is no such row, or something the user can fix; before anything runs.
    """
    from smaug_eval.leaderboard.archive import read_archive
    from smaug_eval.leaderboard.registry import find_suite
    from smaug_eval.leaderboard.verdicts import find_row
    from smaug_eval.runs.reproduction import judge_run, reproduction_recipe

    source, revision = with_revision(path_text(model, "model"), model_revision)
    rows = read_archive(Path(archive)) if archive else None
    row = find_row(against or source, rows, precision=dtype, suite=find_suite(suite).name)
    recipe = reproduction_recipe(
        source,
        row,
        name=name or run_name("reproduce", source, row.model.rpartition("/")[2]),
        tasks=name_list(tasks, "tasks") or None,
        limit=limit,
        dtype=dtype,
        data_root=text_or_none(data_root),
        settings=settings,
    )
    if revision is not None:
        recipe["model"]["revision"] = revision
    result = run(recipe, runs=runs, reporter=reporter, command=command)
    used = recipe["model"]["dtype"]
    return judge_run(result.path, row, model=source, dtype=used, limit=limit, tasks=name_list(tasks, "tasks") or None)


def judge_results(
    paths: PathLike | Sequence[PathLike],
    *,
    model: str | None = None,
    against: str | None = None,
    tasks: Sequence[str] | None = None,
    archive: PathLike | None = None,
    suite: str = "open_llm_v1",
) -> dict[str, Any]:
    """Report per column whether existing results reproduce a published row of the leaderboard.

    See :func:`smaug_eval.results.reproduced.judge_results`; ``archive`` is a file here (CSV, CSV.gz).
    """
    from smaug_eval.leaderboard.archive import read_archive
    from smaug_eval.results import reproduced

    rows = read_archive(Path(archive)) if archive else None
    where, chosen = path_list(paths, "paths"), name_list(tasks, "tasks") or None
    return reproduced.judge_results(where, model=model, against=against, tasks=chosen, archive=rows, suite=suite)
