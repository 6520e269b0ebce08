"""The verbs of the command line as functions: ``import smaug_eval; smaug_eval.run("recipes/demo.yaml")``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from smaug_eval.cluster.options import ClusterOptions
from smaug_eval.console import Reporter, make_console
from smaug_eval.embedded import find_recipe
from smaug_eval.errors import SmaugError
from smaug_eval.machine import Finding, examine
from smaug_eval.models import locate
from smaug_eval.mt_bench.verbs import answer_mt_bench as answer_mt_bench
from smaug_eval.mt_bench.verbs import judge_mt_bench as judge_mt_bench
from smaug_eval.mt_bench.verbs import score_mt_bench as score_mt_bench
from smaug_eval.pipeline import DEFAULT_RUNS, Pipeline, RunResult
from smaug_eval.recipe import Recipe, load_recipe, parse_recipe

if TYPE_CHECKING:
    import pandas as pd

    from smaug_eval.model_views import ModelViews
    from smaug_eval.planning.estimate import RecipePlan

PathLike = str | os.PathLike[str]


def prepare(
    recipe: PathLike | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str] = (),
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
) -> Pipeline:
    """A recipe, checked and bound to a runs directory: ``states()`` says what is done, ``run()`` does the rest.

    Args:
        recipe: A YAML file, the bare name of a committed recipe, plain data, or a :class:`Recipe`.
        overrides: ``key=value`` with dotted keys; only for files and names.
        runs: Where run directories are.
        reporter: Shows progress; silent but for warnings if None.
        command: The shell command to name where the user is told how to continue.

    Raises:
        SmaugError: the recipe or something it names is wrong.
    """
    checked = _checked(recipe, overrides)
    return Pipeline(checked, Path(runs), reporter or Reporter(make_console(), quiet=True), command)


def run(
    recipe: PathLike | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str] = (),
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    cluster: str | ClusterOptions | None = None,
) -> RunResult:
    """Do everything a recipe says that is not done yet; further arguments as for :func:`prepare`.

    Args:
        recipe: As there.
        overrides: As there.
        runs: As there.
        reporter: As there.
        command: As there.
        cluster: A Ray cluster to do it on: ``auto``, ``HOST:PORT`` or more of its options; None for this process.

    Raises:
        Interrupted: stopped; the same call continues.
        SmaugError: something the user can mend.
    """
    options = ClusterOptions(cluster) if isinstance(cluster, str) else cluster
    return prepare(recipe, overrides=overrides, runs=runs, reporter=reporter, command=command).run(options)


def plan(
    recipe: PathLike | Mapping[str, Any] | Recipe,
    *,
    gpus: Sequence[str] = ("H200x8",),
    overrides: Sequence[str] = (),
    runs: PathLike = DEFAULT_RUNS,
    utilisation: float = 0.4,
) -> RecipePlan:
    """What a recipe will take: memory of each GPU, steps, tokens and hours of each stage; nothing is loaded or changed.

    Args:
        recipe: As for :func:`prepare`.
        gpus: Machines by kind and number of their GPUs, such as ``H200x8``.
        overrides: As for :func:`prepare`.
        runs: Where run directories are: pairs built there are counted, not looked up.
        utilisation: Share of the GPUs' peak FLOP/s that is reached.

    Raises:
        SmaugError: the recipe is wrong, a GPU is unknown, or the model's configuration or the pairs' figures cannot be
            had.
    """
    from smaug_eval.planning.estimate import plan_recipe
    from smaug_eval.planning.machines import parse_machine

    machines = [parse_machine(gpu) for gpu in gpus]
    checked = _checked(recipe, overrides)
    return plan_recipe(checked, machines, run=Path(runs) / checked.name, utilisation=utilisation)


def train(
    model: PathLike,
    pairs: PathLike,
    *,
    loss: str = "dpop",
    source: str = "rows",
    name: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    data_root: PathLike | None = None,
    pair_settings: Mapping[str, Any] | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> RunResult:
    """Train one checkpoint; it lies in ``train/<loss>/checkpoint`` of the run directory.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        pairs: A pair file or data set.
        loss: A loss by its name in recipes, such as ``dpo`` or ``dpop``.
        source: ``rows`` for ready-made pairs; ``metamath``, ``arc`` or ``hellaswag`` to make them from such rows.
        name: Name of the run; made from model and loss if None.
        dtype: Precision.
        trust_remote_code: Run Python code that came with the model.
        data_root: Offline mirror for data sets.
        pair_settings: Further keys of the pair set, as in a recipe.
        runs: Where run directories are.
        reporter: Shows progress.
        command: The shell command to name where the user is told how to continue.
        **settings: Further keys of the training, as in a recipe (``beta=0.1``, ``steps=200``, ``lora={"r": 16}``).
    """
    recipe = {
        "name": name or _run_name("train", model, loss),
        "model": {"path": os.fspath(model), "dtype": dtype, "trust_remote_code": trust_remote_code},
        "data_root": _text(data_root),
        "pairs": {"pairs": {"source": source, "path": os.fspath(pairs), **(pair_settings or {})}},
        "trainings": {loss: {"loss": loss, **settings}},
    }
    return run(recipe, runs=runs, reporter=reporter, command=command)


def evaluate(
    model: PathLike,
    *,
    suite: str = "open_llm_v1",
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    name: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    data_root: PathLike | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> RunResult:
    """Score one model on a suite; lm-eval's files lie in ``eval/base/<suite>`` of the run directory.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        suite: ``open_llm_v1``, ``lm_eval_0413`` (lm-eval's own tasks with the leaderboard's shots) or ``demo``.
        tasks: Tasks of the suite; all if None.
        limit: First documents of each task; all if None.
        name: Name of the run; made from model and suite if None.
        dtype: Precision.
        trust_remote_code: Run Python code that came with the model.
        data_root: Offline mirror for data sets.
        runs: Where run directories are.
        reporter: Shows progress.
        command: The shell command to name where the user is told how to continue.
        **settings: Further keys of the evaluation, as in a recipe (``engine="vllm"``, ``batch_size=16``).
    """
    evaluation = {"suite": suite, "tasks": list(tasks) if tasks else None, "limit": limit, **settings}
    recipe = {
        "name": name or _run_name("eval", model, suite),
        "model": {"path": os.fspath(model), "dtype": dtype, "trust_remote_code": trust_remote_code},
        "data_root": _text(data_root),
        "evaluations": {suite: evaluation},
    }
    return run(recipe, runs=runs, reporter=reporter, command=command)


def run_mt_bench(
    model: PathLike,
    *,
    judge: str | Mapping[str, Any],
    questions: PathLike = "mt_bench",
    name: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> RunResult:
    """Let one model answer MT-Bench, have it judged, and report; the files lie in ``mt-bench`` of the run directory.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        judge: Keys of ``mt_bench.<name>.judge`` in a recipe (``{"model": "gpt-4-0613"}``), or ``demo``.
        questions: ``mt_bench``, ``demo``, or a folder in FastChat's layout.
        name: Name of the run; made from the model if None.
        dtype: Precision.
        trust_remote_code: Run Python code that came with the model.
        runs: Where run directories are.
        reporter: Shows progress.
        command: The shell command to name where the user is told how to continue.
        **settings: Further keys of ``mt_bench.<name>`` in a recipe (``chat_template="llama-2"``, ``engine="vllm"``).
    """
    dialogues = {"questions": os.fspath(questions), "judge": judge, **settings}
    recipe = {
        "name": name or _run_name("mt-bench", model, "judged"),
        "model": {"path": os.fspath(model), "dtype": dtype, "trust_remote_code": trust_remote_code},
        "mt_bench": {"dialogues": dialogues},
    }
    return run(recipe, runs=runs, reporter=reporter, command=command)


def build_pairs(
    path: PathLike,
    out: PathLike,
    *,
    source: str = "rows",
    data_root: PathLike | None = None,
    tokenizer: PathLike | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Make or check a pair set and write ``train.jsonl``, ``eval.jsonl`` and ``stats.json``.

    Args:
        path: A file or data set.
        out: Folder to write to.
        source: ``rows``, ``metamath``, ``arc`` or ``hellaswag``.
        data_root: Offline mirror for data sets.
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of a tokenizer, to count tokens too.
        **settings: Further keys of the pair set, as in a recipe.

    Returns:
        The statistics that ``stats.json`` holds.

    Raises:
        SmaugError: a setting or a row is wrong.
    """
    from trainers.pairs.build import build_pairs as build

    if source == "mixture":
        raise SmaugError("a mixture draws from other pair sets", fix="describe it in a recipe, beside its sets")
    recipe = {
        "name": "pairs",
        "model": "embedded:demo-model",
        "pairs": {"pairs": {"source": source, "path": os.fspath(path), **settings}},
    }
    config = parse_recipe(recipe).pairs["pairs"]
    stats = build(
        config, data_root=Path(data_root) if data_root else None, out_dir=Path(out), tokenizer=_text(tokenizer)
    )
    return stats.model_dump(mode="json")


def pair_stats(
    path: PathLike,
    *,
    tokenizer: PathLike | None = None,
    data_root: PathLike | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> dict[str, Any]:
    """Measure ready-made pairs: lengths, prompt to completion, and how far chosen and rejected lie apart.

    Args:
        path: A pair file, a folder that ``build_pairs`` wrote, or a Hub data set.
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of a tokenizer, to count tokens too.
        data_root: Offline mirror for data sets.
        config: Configuration of the data set.
        split: Split of the data set; the known set's own or ``train`` if None.
        revision: Branch, tag or commit of the data set.

    Returns:
        The fields of :class:`trainers.pairs.stats.PairFileStats` as plain data.

    Raises:
        SmaugError: the rows or the tokenizer cannot be read, or there is no pair to measure.
    """
    from trainers.pairs.stats import pair_stats as measure

    stats = measure(
        os.fspath(path),
        tokenizer=_text(tokenizer),
        data_root=Path(data_root) if data_root else None,
        config=config,
        split=split,
        revision=revision,
    )
    return stats.model_dump(mode="json")


def diagnose(
    model: PathLike,
    pairs: PathLike,
    *,
    reference: PathLike | None = None,
    limit: int | None = None,
    dtype: str = "auto",
    max_length: int = 1024,
    gradient_pairs: int = 8,
    seed: int = 42,
    data_root: PathLike | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """What a model thinks of preference pairs: before, at and after the edit, by edit distance, CHES, gradients.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        pairs: A pair file, a folder that ``build_pairs`` wrote (its held-out pairs, if it has any), or a Hub data set.
        reference: The model before training, to see what the training changed.
        limit: First pairs to look at; all if None.
        dtype: ``float32``, ``bfloat16`` or ``auto``, the checkpoint's own.
        max_length: Tokens of prompt and completion together.
        gradient_pairs: Pairs of which the gradients of chosen and rejected are compared; 0 for none.
        seed: Which pairs those are.
        data_root: Offline mirror for data sets.
        config: Configuration of the data set.
        split: Split of the data set; the known set's own or ``train`` if None.
        revision: Branch, tag or commit of the data set.
        reporter: Shows progress.

    Returns:
        Plain data, described at :func:`smaug_eval.diagnosis.diagnose_model`.

    Raises:
        SmaugError: a model or the pairs cannot be used.
    """
    from smaug_eval.diagnosis import DiagnosisSettings, diagnose_model, read_preferences

    read = read_preferences(
        os.fspath(pairs),
        data_root=Path(data_root) if data_root else None,
        config=config,
        split=split,
        revision=revision,
    )
    return diagnose_model(
        os.fspath(model),
        read,
        reference=_text(reference),
        settings=DiagnosisSettings(limit, dtype, max_length, gradient_pairs, seed),
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def check_contamination(
    model: PathLike,
    *,
    reference: PathLike,
    tasks: Sequence[str] | None = None,
    suite: str = "open_llm_v1",
    limit: int | None = 100,
    dtype: str = "auto",
    data_root: PathLike | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The share of benchmark documents that a model finds likelier than what a reference model makes of them.

    What is computed lies in ``contamination`` of the runs directory; the same call continues an interrupted one.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        reference: The reference model, in the same forms; published figures take ``huggyllama/llama-7b``.
        tasks: Columns of the suite, such as ``gsm8k``; all if None.
        suite: ``open_llm_v1`` or ``demo``.
        limit: Documents of each task; all if None.
        dtype: Precision of both models.
        data_root: Offline mirror for data sets.
        runs: Where run directories are.
        reporter: Shows progress.
        **settings: Further fields of :class:`smaug_eval.contamination.check.CheckSettings` (``batch_size=25``,
            ``engine_args={"parallelize": True}``).

    Returns:
        Plain data, described at :func:`smaug_eval.contamination.check.check_model`.

    Raises:
        SmaugError: a model, a task, a setting or the data cannot be used.
    """
    from smaug_eval.contamination.check import check_model, check_settings
    from smaug_eval.leaderboard.registry import find_suite

    return check_model(
        os.fspath(model),
        os.fspath(reference),
        suite=find_suite(suite),
        tasks=tasks or None,
        settings=check_settings({"limit": limit, "dtype": dtype, **settings}),
        data_root=Path(data_root) if data_root else None,
        journals=Path(runs) / "contamination",
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def check_pair_overlap(
    pairs: PathLike,
    *,
    tasks: Sequence[str] | None = None,
    suite: str = "open_llm_v1",
    data_root: PathLike | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Which documents of the evaluated splits stand in training pairs, whole or in runs of words.

    Args:
        pairs: A pair file, a folder that ``build_pairs`` wrote, or a Hub data set.
        tasks: Columns of the suite, such as ``gsm8k``; all if None.
        suite: ``open_llm_v1`` or ``demo``.
        data_root: Offline mirror for data sets.
        reporter: Shows progress.

    Returns:
        Plain data, described at :func:`smaug_eval.contamination.overlap.check_pairs`.

    Raises:
        SmaugError: the pairs, a task or its data cannot be used.
    """
    from smaug_eval.contamination.overlap import check_pairs
    from smaug_eval.leaderboard.registry import find_suite

    return check_pairs(
        os.fspath(pairs),
        suite=find_suite(suite),
        tasks=tasks or None,
        data_root=Path(data_root) if data_root else None,
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def merge(adapter: PathLike, out: PathLike, *, base: str | None = None, dtype: str = "auto") -> Path:
    """Merge a PEFT adapter into its base: a checkpoint that loads by itself, with tokenizer and model card.

    Args:
        adapter: Folder with ``adapter_config.json`` and ``adapter_model.safetensors``, ours or anybody's.
        out: New folder for the checkpoint.
        base: Folder, Hub id or ``embedded:demo-model`` of the base; what the adapter names if None.
        dtype: Type of the weights, ``auto`` for the base's own.

    Returns:
        The folder.

    Raises:
        SmaugError: the adapter is pickled, damaged, or made for another base, or ``out`` is in use.
    """
    from trainers.merge import adapter_base, merge_adapter

    folder = Path(adapter)
    found = locate(base or adapter_base(folder))
    merge_adapter(
        folder,
        base_path=found.path,
        base_name=found.path.name if Path(found.source).exists() else found.source,
        base_sha256=found.sha256,
        dtype=found.dtype if dtype == "auto" else dtype,
        out_dir=Path(out),
    )
    return Path(out)


def report(
    paths: Sequence[PathLike],
    out: PathLike | None = None,
    *,
    title: str | None = None,
    baseline: str | None = None,
    format_: str = "html",
    archive: PathLike | None = None,
) -> Path:
    """Write one report over run directories, lm-eval results, training logs and FastChat's files.

    Args:
        paths: Run directories, folders of one training or its ``log.jsonl``, folders or files of lm-eval results,
            FastChat's judgments or answers, in any mix.
        out: The file to write; ``report.<format_>`` where None.
        title: Heading.
        baseline: The model that differences are taken against.
        format_: ``html``; ``md``, a summary for a pull request; ``json``, the numbers.
        archive: Rows of the archived leaderboard (CSV, CSV.gz), to rank models in.

    Raises:
        SmaugError: nothing to report is found, a file is damaged, or there is no such baseline or format.
    """
    from reports import build_report

    return build_report(
        [Path(path) for path in paths],
        Path(f"report.{format_}" if out is None else out),
        title=title,
        baseline=baseline,
        format_=format_,
        archive=None if archive is None else Path(archive),
    )


def scores(paths: Sequence[PathLike], *, baseline: str | None = None) -> pd.DataFrame:
    """The scores of runs and lm-eval results as a data frame; see :func:`smaug_eval.tables.scores`."""
    from smaug_eval import tables

    return tables.scores([Path(path) for path in paths], baseline=baseline)


def dump_requests(
    out: PathLike | IO[bytes] | None = None,
    *,
    suite: str = "open_llm_v1",
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    data_root: PathLike | None = None,
) -> list[dict[str, Any]]:
    """Write every request of a suite in protocol order, one line per document.

    Args:
        out: File to write, compressed where it ends in ``.gz``, or an open binary stream; None only counts and hashes.
        suite: ``open_llm_v1`` or ``demo``.
        tasks: Columns or single tasks such as ``mmlu_anatomy``; all if None.
        limit: First documents of each task in protocol order; all if None.
        data_root: Offline mirror for data sets.

    Returns:
        The fields of :class:`smaug_eval.leaderboard.dump.DumpedTask` per task as plain data.

    Raises:
        SmaugError: a name is unknown, data are missing or do not fit, or the file cannot be written.
    """
    from smaug_eval.leaderboard import dump
    from smaug_eval.leaderboard.registry import find_suite

    target = Path(out) if isinstance(out, (str, os.PathLike)) else out
    root = Path(data_root) if data_root else None
    written = dump.dump_requests(find_suite(suite), tasks, limit=limit, data_root=root, out=target)
    return [asdict(each) for each in written]


def leaderboard_rows() -> list[dict[str, Any]]:
    """The archived leaderboard's rows that we state as facts, with source and date."""
    from smaug_eval import standings

    return standings.leaderboard_rows()


def rank(paths: Sequence[PathLike], archive: PathLike, *, include_flagged: bool = False) -> dict[str, Any]:
    """Where runs and lm-eval results would have ranked on the archived leaderboard; see :func:`standings.rank`.

    Args:
        paths: Run directories, folders or files of lm-eval results; empty: only the archive is described.
        archive: The leaderboard's rows as CSV, or CSV compressed with gzip.
        include_flagged: Also rank against the models the leaderboard flagged.

    Raises:
        SmaugError: the archive or a path cannot be used.
    """
    from smaug_eval import standings

    return standings.rank([Path(path) for path in paths], Path(archive), include_flagged=include_flagged)


def reproduce(
    model: PathLike,
    *,
    against: str | None = None,
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    dtype: str | None = None,
    archive: PathLike | None = None,
    data_root: PathLike | None = None,
    name: str | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measure a model as the leaderboard did, and say per column whether its published row is reproduced.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        against: Hub id of the published row, or ``id@commit``; the model's own if None.
        tasks: Columns to run; all if None.
        limit: First documents of each task; all if None.
        dtype: Precision; the published row's if None.
        archive: Rows of the leaderboard beyond those we keep (CSV, CSV.gz).
        data_root: Offline mirror for data sets.
        name: Name of the run; made from model and row if None.
        runs: Where run directories are.
        reporter: Shows progress.
        command: The shell command to name where the user is told how to continue.
        **settings: Further keys of the evaluation, as in a recipe (``engine="vllm"``, ``batch_size=16``).

    Returns:
        What ``reproduction.json`` in the run directory holds; see :func:`smaug_eval.reproduction.judge_run`.

    Raises:
        Interrupted: stopped; the same call continues.
        SmaugError: there is no such row, or something the user can mend; before anything runs.
    """
    from smaug_eval.leaderboard.archive import read_archive
    from smaug_eval.leaderboard.reproduce import find_row
    from smaug_eval.reproduction import judge_run, reproduction_recipe

    source = os.fspath(model)
    rows = read_archive(Path(archive)) if archive else None
    row = find_row(against or source, rows, precision=dtype)
    recipe = reproduction_recipe(
        source,
        row,
        name=name or _run_name("reproduce", source, row.model.rpartition("/")[2]),
        tasks=tasks,
        limit=limit,
        dtype=dtype,
        data_root=_text(data_root),
        settings=settings,
    )
    result = run(recipe, runs=runs, reporter=reporter, command=command)
    used = recipe["model"]["dtype"]
    return judge_run(result.path, row, model=source, dtype=used, limit=limit, tasks=tasks)


def score_views(paths: Sequence[PathLike]) -> list[ModelViews]:
    """Runs, or anybody's lm-eval results, on the leaderboard's rules and on lm-eval 0.4.13's.

    See :func:`smaug_eval.model_views.score_views`.
    """
    from smaug_eval import model_views

    return model_views.score_views([Path(path) for path in paths])


def doctor(runs: PathLike = DEFAULT_RUNS) -> list[Finding]:
    """What this machine can run."""
    return examine(Path(runs))


def _checked(recipe: PathLike | Mapping[str, Any] | Recipe, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe)
    return load_recipe(find_recipe(os.fspath(recipe)), overrides)


def _run_name(verb: str, model: PathLike, what: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", os.fspath(model).rstrip("/").rpartition("/")[2]).strip("-.") or "model"
    return f"{verb}-{stem}-{what}"[:64]


def _text(path: PathLike | None) -> str | None:
    return None if path is None else os.fspath(path)
