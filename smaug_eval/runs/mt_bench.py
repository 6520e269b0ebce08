"""Provide the verbs of ``smaug-eval mt-bench`` as functions, on files in FastChat's layout."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.common.arguments import PathLike, path_list, path_text, rows_in_memory
from smaug_eval.common.console import Reporter, captured_output, make_console
from smaug_eval.common.errors import Incomplete, SmaugError
from smaug_eval.common.names import is_plain_name, with_revision
from smaug_eval.engines.build import check_engine_args
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import ENGINES
from smaug_eval.engines.served.settings import api_settings
from smaug_eval.models.checkpoint import Checkpoint, locate, served_name
from smaug_eval.mt_bench.config import MT_BENCH, MtBenchConfig
from smaug_eval.mt_bench.files.layout import ANSWERS, JUDGMENTS, answers_file
from smaug_eval.mt_bench.files.records import Judgments
from smaug_eval.mt_bench.judge.judgments_file import judgments_of_rows, load_judgment_files
from smaug_eval.mt_bench.scores.single import scores_as_json
from smaug_eval.mt_bench.scores.whole import scores
from smaug_eval.mt_bench.stage.answering import Answering, dialogue_engine
from smaug_eval.mt_bench.stage.deciding import StopRule
from smaug_eval.mt_bench.stage.judging import Judging
from smaug_eval.mt_bench.stage.question_sets import find_question_set, selection_of
from smaug_eval.results.layout import LOG
from smaug_eval.runs.directory import RunDirectory
from smaug_eval.runs.recipe_file import parse_recipe
from smaug_eval.trainers.launch import refuse_foreign_launch

Rows = Sequence[Mapping[str, Any]]
"""Lines of FastChat's files in memory; a data frame of them is taken, too."""
DEFAULT_FOLDER = "mt_bench"
MODEL = "embedded:demo-model"
"""Stands for any model in a recipe."""


@dataclass(frozen=True)
class JudgeResult:
    """Hold what judging left.

    Attributes:
        file: The judgments.
        judge: Whose they are.
        forecast: What was to do, as text.
        summary: Numbers of judgments, and warnings; None where nothing was requested, or judgments are missing.
        complete: Whether no more judgments are missing than may be.
    """

    file: Path
    judge: str
    forecast: str
    summary: Mapping[str, Any] | None
    complete: bool = True


def answer_mt_bench(
    model: PathLike,
    out: PathLike = DEFAULT_FOLDER,
    *,
    questions: PathLike = MT_BENCH,
    model_id: str | None = None,
    dtype: str = "auto",
    model_revision: str | None = None,
    seed: int = 42,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Path:
    """Generate a model's answers to MT-Bench; stopped, the same call resumes.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``; with ``engine="api"`` also ``api:NAME`` of a served model.
        out: Folder; the answers are ``model_answer/<model_id>.jsonl`` in it, what libraries print is in ``run.log``.
        questions: ``mt_bench``, ``demo``, or a folder in FastChat's layout.
        model_id: Name of the model in files; made from ``model`` if None.
        dtype: Precision.
        model_revision: Branch, tag or commit of the model on the Hub.
        seed: From which each turn's seed is derived.
        reporter: Shows progress.
        **settings: Further keys of ``mt_bench`` in a recipe (``chat_template="llama-2"``, ``engine="api"``,
            ``engine_args={"base_url": ...}``).

    Returns:
        The file of answers.

    Raises:
        Incomplete: a served model did not answer everything; what it answered is kept.
        SmaugError: a setting, the model or the question set is wrong.
    """
    refuse_foreign_launch()
    reporter = reporter or Reporter(make_console(), quiet=True)
    given = _ModelThatAnswers.of(model, questions, model_id, dtype, model_revision, seed, settings, reporter)
    given.check_key()
    name, checkpoint, answering = given.name, given.checkpoint, given.answering
    folder = Path(out) / ANSWERS
    title = f"{name} answers {answering.questions.title}"
    log = Path(out) / LOG  # for what libraries print
    with (
        RunDirectory(Path(out)).locked(),
        contextlib.closing(EnginePool()) as pool,
        reporter.stage(title),
        captured_output(log),
    ):
        summary = answering.answer(folder, name, checkpoint, pool)
    for warning in summary["warnings"]:
        reporter.warn(warning)
    return answers_file(folder, name)


def forecast_answers(
    model: PathLike,
    out: PathLike = DEFAULT_FOLDER,
    *,
    questions: PathLike = MT_BENCH,
    model_id: str | None = None,
    dtype: str = "auto",
    model_revision: str | None = None,
    seed: int = 42,
    reporter: Reporter | None = None,
    **settings: Any,
) -> str:
    """Say what :func:`answer_mt_bench` would do: turns or, of a served model, requests with their tokens and cost.

    Arguments and errors are those of that function; nothing is loaded or requested.
    """
    reporter = reporter or Reporter(make_console(), quiet=True)
    given = _ModelThatAnswers.of(model, questions, model_id, dtype, model_revision, seed, settings, reporter)
    return given.answering.forecast(Path(out) / ANSWERS, given.name, given.checkpoint)


@dataclass(frozen=True)
class _ModelThatAnswers:
    """A model that is to answer, checked: its name in files, where it is, and how it answers."""

    name: str
    checkpoint: Checkpoint
    answering: Answering
    config: MtBenchConfig

    @classmethod
    def of(
        cls,
        model: PathLike,
        questions: PathLike,
        model_id: str | None,
        dtype: str,
        revision: str | None,
        seed: int,
        settings: Mapping[str, Any],
        reporter: Reporter,
    ) -> _ModelThatAnswers:
        source, revision = with_revision(path_text(model, "model"), revision)
        last = (served_name(source) or source).rstrip("/").rpartition("/")[2]
        name = model_id or re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")
        if not is_plain_name(name):
            raise SmaugError(f"the model's name {name!r} is to be a file's", fix="give another with --model-id")
        config = _checked({"questions": path_text(questions, "questions"), **settings})
        checkpoint = locate(source, revision=revision, uses=[ENGINES[dialogue_engine(config.engine)].use])
        answering = Answering(config, seed=seed, dtype=dtype, reporter=reporter)
        answering.check(checkpoint)
        return cls(name, checkpoint, answering, config)

    def check_key(self) -> None:
        """Make sure of a served model's key, and of what an engine is told."""
        check_engine_args(self.config.engine_args)
        if self.answering.is_served:
            api_settings(self.config.engine_args)


def judge_mt_bench(
    answers: PathLike | Sequence[PathLike] | Rows = DEFAULT_FOLDER,
    out: PathLike | None = None,
    *,
    judge: Callable[[str, str], str] | None = None,
    questions: PathLike = MT_BENCH,
    references: str = "original",
    limit: int | None = None,
    turns: int | None = None,
    reference_categories: Sequence[str] | str | None = None,
    thinking: str | None = None,
    stop: str | None = None,
    within: float | None = None,
    against: str | None = None,
    seed: int = 42,
    dry_run: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> JudgeResult:
    """Judge answers, ours or FastChat's; stopped, the same call resumes.

    Args:
        answers: Files of answers, or folders with ``model_answer`` in them; or FastChat's lines of answers as
            dictionaries or a data frame, with ``model_id`` in each.
        out: Folder; the judgments are in ``model_judgment`` in it. Where None, the folder of the answers.
        judge: A function that judges in the place of an endpoint: it takes the system message and the user's and
            returns the judgment. It is called from as many threads as ``concurrency`` says.
        questions: ``mt_bench``, ``demo``, or a folder in FastChat's layout.
        references: ``original``, ``corrected``, or the stem of a file of reference answers.
        limit: First questions; all if None.
        turns: First turns of each question; all if None.
        reference_categories: Those judged with a reference answer; FastChat's if None, none if empty.
        thinking: ``strip`` or ``keep`` blocks of thinking in the answers; as they were made if None.
        stop: ``decided`` to judge questions in random order until each model's difference from ``against`` is decided;
            the same call without it judges the rest.
        within: With ``stop``: points of the judge's scale below which a difference is too small to matter.
        against: With ``stop``: the model to compare with; the first one if None.
        seed: Of the questions' order, with ``stop``.
        dry_run: Only say what there is to do.
        reporter: Shows progress.
        **settings: Keys of ``mt_bench.<name>.judge`` in a recipe (``model="gpt-4-0613"``, ``mode="pairwise-all"``).

    Raises:
        Incomplete: judgments are missing: the judge refuses, or the budget is spent. What is done is kept, and the
            error's ``result`` is the :class:`JudgeResult`.
        SmaugError: a setting or a file is wrong.
    """
    if judge is not None:
        if not callable(judge):
            raise SmaugError(
                f"judge: a function is wanted, not a {type(judge).__name__}", fix="name an endpoint's model with model="
            )
        settings.setdefault("model", getattr(judge, "__name__", type(judge).__name__).strip("<>") or "function")
    entry: dict[str, Any] = {
        "questions": path_text(questions, "questions"),
        "references": references,
        "limit": limit,
        "turns": turns,
        "reference_categories": reference_categories,
        "judge": settings,
    }
    given = {"thinking": thinking, "stop": stop, "within": within, "against": None if stop else against}
    entry |= {key: value for key, value in given.items() if value is not None}
    reporter = reporter or Reporter(make_console(), quiet=True)
    config = _checked(entry, models=1 if stop is None else 2)
    if config.judge is None:
        raise SmaugError("no judge is given", fix="name a model (--judge-model)")
    with _files_of(answers) as files:
        if config.stop is not None:
            _checked(entry, models=len(files))
        folder = Path(out) if out is not None else _beside(files) if rows_in_memory(answers) is None else DEFAULT_FOLDER
        chosen = find_question_set(config.questions, references, selection_of(config))
        judging = Judging(config.judge, chosen, reporter, thinking, judge)
        rule = None if config.stop is None else StopRule(against or files[0].stem, within, seed)
        return _judged(judging, files, Path(folder), rule, dry_run=dry_run, reporter=reporter)


def _judged(
    judging: Judging, files: list[Path], folder: Path, rule: StopRule | None, *, dry_run: bool, reporter: Reporter
) -> JudgeResult:
    file = judging.file(folder / JUDGMENTS)
    plan = judging.plan(files)
    forecast = ("" if rule is None else "at most ") + judging.forecast(plan, file)
    if dry_run:
        return JudgeResult(file, judging.name, forecast, None)
    judging.check()
    for model, number in plan.thinking.items():
        reporter.say(f"{model}: {number} answers hold blocks of thinking")
    try:
        with RunDirectory(folder).locked(), reporter.stage(f"{judging.name} judges"):
            summary = judging.judge(files, file) if rule is None else judging.judge_until_decided(files, file, rule)
    except Incomplete as error:
        error.result = JudgeResult(file, judging.name, forecast, None, complete=False)
        raise
    for warning in summary["warnings"]:
        reporter.warn(warning)
    return JudgeResult(file, judging.name, forecast, summary)


def score_mt_bench(
    files: PathLike | Sequence[PathLike] | Rows,
    *,
    judge: str | None = None,
    baseline: str | None = None,
    details: bool = False,
) -> dict[str, Any]:
    """Return the scores of judgments that we, FastChat or others wrote.

    See :func:`smaug_eval.mt_bench.scores.single.scores_as_json`; with ``details``, as ``mt-bench score --json`` prints
    them, :func:`smaug_eval.mt_bench.scores.whole.scores`.

    Args:
        files: Files of judgments, or folders with ``model_judgment`` in them; or lines of judgments as dictionaries or
            a data frame.
        judge: Whose; may be None where only one judged, and with ``details``, which then give how far judges agree.
        baseline: Count only pairs with this model.
        details: Whether to give intervals, categories, other readings, failures and notes, too.

    Raises:
        SmaugError: a file is malformed, empty, or half written, there is no such judge or model, or several judges
            judged and none is chosen.
    """

    judgments = load_judgments(files)
    return (scores if details else scores_as_json)(judgments, judge=judge, baseline=baseline)


def load_judgments(paths: PathLike | Sequence[PathLike] | Rows) -> Judgments:
    """Load the judgments of files, and of folders that have ``model_judgment`` in or below them; or of lines in memory.

    Raises:
        SmaugError: a path is not there or has no judgments.
    """
    rows = rows_in_memory(paths)
    if rows is not None:
        return judgments_of_rows(rows)
    files: list[Path] = []
    given = path_list(paths, "files")
    for path in given:
        below = "**/*.jsonl*" if path.name == JUDGMENTS else f"**/{JUDGMENTS}/**/*.jsonl*"
        found = [path] if path.is_file() else sorted(path.glob(below))
        found = [file for file in found if path.is_file() or file.name.endswith((".jsonl", ".jsonl.gz"))]
        if not found:
            raise SmaugError(f"{path}: no judgments there", fix="give files that a judge's judgments were written to")
        files += found
    return load_judgment_files(files, given)


@contextlib.contextmanager
def _files_of(answers: PathLike | Sequence[PathLike] | Rows) -> Iterator[list[Path]]:
    """The files of answers; those in memory are written to some for the time being."""
    rows = rows_in_memory(answers)
    if rows is None:
        yield _answer_files(path_list(answers, "answers"))
        return
    by_model: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, row in enumerate(rows, 1):
        model = row.get("model_id")
        if not isinstance(model, str) or not is_plain_name(re.sub(r"[^A-Za-z0-9._-]+", "-", model)):
            raise SmaugError(f"answers, row {number}: model_id is {model!r}", fix="name the model that answered")
        by_model[model].append(row)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for model, own in by_model.items():
            files.append(Path(folder) / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model)}.jsonl")
            files[-1].write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")
        yield files


def _answer_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = [path] if path.is_file() else sorted((path / ANSWERS).glob("*.jsonl"))
        if not found:
            raise SmaugError(f"{path}: no answers there", fix=f"give files of answers, or a folder with {ANSWERS}")
        files += found
    return files


def _beside(files: Sequence[Path]) -> Path:
    """The folder that the folder of the first file is in, where that is called as FastChat calls it."""
    folder = files[0].parent
    return folder.parent if folder.name == ANSWERS else folder


def _checked(settings: Mapping[str, Any], *, models: int = 1) -> MtBenchConfig:
    """The recipe's entry that some settings amount to, for so many models."""
    recipe: dict[str, Any] = {"name": "mt-bench", "model": MODEL, "mt_bench": {"dialogues": settings}}
    others = {f"model-{number}": MODEL for number in range(1, models)}
    return parse_recipe({**recipe, **({"models": others} if others else {})}, where="mt-bench").mt_bench["dialogues"]
