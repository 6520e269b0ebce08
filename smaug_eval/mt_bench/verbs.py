"""The verbs of ``smaug-eval mt-bench`` as functions, on files in FastChat's layout."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.console import Reporter, captured_output, make_console
from smaug_eval.errors import SmaugError
from smaug_eval.evaluation import EnginePool
from smaug_eval.models import locate
from smaug_eval.mt_bench.config import MT_BENCH, MtBenchConfig
from smaug_eval.mt_bench.layout import ANSWERS, JUDGMENTS, answers_file
from smaug_eval.mt_bench.records import Judgments, read_judgments
from smaug_eval.mt_bench.stage import Answering, Judging, find_question_set
from smaug_eval.names import is_plain_name
from smaug_eval.recipe import parse_recipe
from smaug_eval.rundir import LOG, RunDirectory

PathLike = str | os.PathLike[str]
DEFAULT_FOLDER = "mt_bench"


@dataclass(frozen=True)
class JudgeResult:
    """What judging left.

    Attributes:
        file: The judgments.
        judge: Whose they are.
        forecast: What was to do, in words.
        summary: Numbers of judgments, and warnings; None where nothing was asked.
    """

    file: Path
    judge: str
    forecast: str
    summary: Mapping[str, Any] | None


def answer_mt_bench(
    model: PathLike,
    out: PathLike = DEFAULT_FOLDER,
    *,
    questions: PathLike = MT_BENCH,
    model_id: str | None = None,
    dtype: str = "auto",
    seed: int = 42,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Path:
    """Let a model answer MT-Bench; stopped, the same call goes on.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        out: Folder; the answers are ``model_answer/<model_id>.jsonl`` in it, what libraries print is in ``run.log``.
        questions: ``mt_bench``, ``demo``, or a folder in FastChat's layout.
        model_id: Name of the model in files; made from ``model`` if None.
        dtype: Precision.
        seed: From which each turn's seed is derived.
        reporter: Shows progress.
        **settings: Further keys of ``mt_bench`` in a recipe (``chat_template="llama-2"``, ``engine="vllm"``).

    Returns:
        The file of answers.

    Raises:
        SmaugError: a setting, the model or the question set is wrong.
    """
    name = model_id or re.sub(r"[^A-Za-z0-9._-]+", "-", os.fspath(model).rstrip("/").rpartition("/")[2]).strip("-.")
    if not is_plain_name(name):
        raise SmaugError(f"the model's name {name!r} is to be a file's", fix="give another with --model-id")
    config = _checked({"questions": os.fspath(questions), **settings})
    reporter = reporter or Reporter(make_console(), quiet=True)
    checkpoint = locate(os.fspath(model))
    answering = Answering(config, seed=seed, dtype=dtype, reporter=reporter)
    answering.check(checkpoint.path)
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


def judge_mt_bench(
    answers: Sequence[PathLike] = (DEFAULT_FOLDER,),
    out: PathLike | None = None,
    *,
    questions: PathLike = MT_BENCH,
    references: str = "original",
    dry_run: bool = False,
    reporter: Reporter | None = None,
    **judge: Any,
) -> JudgeResult:
    """Have answers judged, ours or FastChat's; stopped, the same call goes on.

    Args:
        answers: Files of answers, or folders with ``model_answer`` in them.
        out: Folder; the judgments are in ``model_judgment`` in it. Where None, the folder of the answers.
        questions: ``mt_bench``, ``demo``, or a folder in FastChat's layout.
        references: ``original``, ``corrected``, or the stem of a file of reference answers.
        dry_run: Only say what there is to do.
        reporter: Shows progress.
        **judge: Keys of ``mt_bench.<name>.judge`` in a recipe (``model="gpt-4-0613"``, ``mode="pairwise-all"``).

    Raises:
        SmaugError: a setting or a file is wrong, the judge refuses, or the budget is spent; what is done is kept.
    """
    config = _checked({"questions": os.fspath(questions), "references": references, "judge": judge})
    files = _answer_files([Path(path) for path in answers])
    folder = Path(out) if out is not None else _beside(files)
    reporter = reporter or Reporter(make_console(), quiet=True)
    if config.judge is None:
        raise SmaugError("no judge is given", fix="name a model (--judge-model)")
    judging = Judging(config.judge, find_question_set(config.questions, references), reporter)
    file = judging.file(folder / JUDGMENTS)
    plan = judging.plan(files)
    forecast = judging.forecast(plan, file)
    if dry_run:
        return JudgeResult(file, judging.name, forecast, None)
    judging.check()
    with RunDirectory(folder).locked(), reporter.stage(f"{judging.name} judges"):
        summary = judging.judge(files, file)
    for warning in summary["warnings"]:
        reporter.warn(warning)
    return JudgeResult(file, judging.name, forecast, summary)


def score_mt_bench(
    files: Sequence[PathLike], *, judge: str | None = None, baseline: str | None = None
) -> dict[str, Any]:
    """Scores of judgments that we or FastChat wrote; see :func:`smaug_eval.mt_bench.scores.scores_as_json`.

    Args:
        files: Files of judgments, or folders with ``model_judgment`` in them.
        judge: Whose; may be None where only one judged.
        baseline: Count only pairs with this model.

    Raises:
        SmaugError: a file is malformed, or several judges judged and none is chosen.
    """
    from smaug_eval.mt_bench.scores import scores_as_json

    return scores_as_json(load_judgments([Path(path) for path in files]), judge=judge, baseline=baseline)


def load_judgments(paths: Sequence[Path]) -> Judgments:
    """The judgments of files, and of folders that have ``model_judgment`` in or below them.

    Raises:
        SmaugError: a path is not there or has no judgments.
    """
    files: list[Path] = []
    for path in paths:
        found = [path] if path.is_file() else sorted(path.glob(f"**/{JUDGMENTS}/**/*.jsonl"))
        if not found:
            raise SmaugError(f"{path}: no judgments there", fix="give files that a judge's judgments were written to")
        files += found
    return read_judgments(files)


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


def _checked(settings: Mapping[str, Any]) -> MtBenchConfig:
    """The recipe's entry that some settings amount to."""
    recipe = {"name": "mt-bench", "model": "embedded:demo-model", "mt_bench": {"dialogues": settings}}
    return parse_recipe(recipe, where="mt-bench").mt_bench["dialogues"]
