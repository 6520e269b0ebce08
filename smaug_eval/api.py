"""Provide the verbs of the command line as functions: ``import smaug_eval; smaug_eval.run("recipes/demo.yaml")``.

Arguments that several functions take mean the same everywhere, and are described here only:

- ``model``: a folder, a Hub id (also ``organisation/name@revision``) or ``embedded:demo-model``.
- ``model_revision``: branch, tag or commit of the model on the Hub.
- ``dtype``: precision, ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
- ``trust_remote_code``: run Python code that came with the model.
- ``data_root``: an offline mirror of the Hub's data sets; None for the Hub.
- ``tasks``: columns of the suite, such as ``gsm8k``; None for all.
- ``limit``: first documents of each task, in protocol order; None for all.
- ``config``, ``split``, ``revision``: of a data set on the Hub; None for the known set's own, else ``default``,
  ``train`` and the newest.
- ``runs``: where run directories are; ``name``: that of the run, made from the other arguments if None.
- ``reporter``: shows progress; None is silent but for warnings.
- ``command``: the shell command to name in the message on how to resume.
- ``**settings``: further keys of a recipe, as each function says.

Every function raises :class:`SmaugError` for what the user can fix, before anything expensive starts, and
:class:`smaug_eval.common.errors.Interrupted` when it was stopped; the same call then resumes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from smaug_eval.checkup import Finding, examine
from smaug_eval.common.arguments import PathLike, name_list, path_list, path_text
from smaug_eval.common.console import Reporter, make_console
from smaug_eval.common.embedded import find_recipe
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import distinct_names, given_path, is_there, with_revision
from smaug_eval.models.checkpoint import Checkpoint, locate, locate_adapter
from smaug_eval.models.quantised import Use
from smaug_eval.runs.cluster.options import ClusterOptions
from smaug_eval.runs.mt_bench import answer_mt_bench as answer_mt_bench
from smaug_eval.runs.mt_bench import judge_mt_bench as judge_mt_bench
from smaug_eval.runs.mt_bench import score_mt_bench as score_mt_bench
from smaug_eval.runs.pipeline import DEFAULT_RUNS, Pipeline, RunResult
from smaug_eval.runs.recipe import Recipe
from smaug_eval.runs.recipe_file import load_recipe, parse_recipe

if TYPE_CHECKING:
    import pandas as pd

    from smaug_eval.gating import GateResult
    from smaug_eval.leaderboard.chats import Chat
    from smaug_eval.planning.estimate import RecipePlan
    from smaug_eval.results.views import ModelViews
    from smaug_eval.sharing.publishing import Publication


def prepare(
    recipe: PathLike | Mapping[str, Any] | Recipe,
    *,
    overrides: str | Sequence[str] = (),
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
) -> Pipeline:
    """Check a recipe and bind it to a runs directory: ``states()`` lists what is done, ``run()`` does the rest.

    Args:
        recipe: A YAML file, the bare name of a committed recipe, plain data, or a :class:`Recipe`.
        overrides: ``key=value`` with dotted keys; only for files and names.

    Raises:
        SmaugError: the recipe or something it names is wrong.
    """
    checked = _checked(recipe, overrides)
    return Pipeline(checked, Path(runs), reporter or Reporter(make_console(), quiet=True), command)


def run(
    recipe: PathLike | Mapping[str, Any] | Recipe,
    *,
    overrides: str | Sequence[str] = (),
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    cluster: str | ClusterOptions | None = None,
) -> RunResult:
    """Run everything of a recipe that is not done yet; further arguments as for :func:`prepare`.

    Args:
        cluster: A Ray cluster to do it on: ``auto``, ``HOST:PORT`` or more of its options; None for this process.

    Raises:
        Interrupted: stopped; the same call continues.
        SmaugError: something the user can fix.
    """
    options = ClusterOptions(cluster) if isinstance(cluster, str) else cluster
    return prepare(recipe, overrides=overrides, runs=runs, reporter=reporter, command=command).run(options)


def init(
    model: PathLike,
    pairs: PathLike | None = None,
    *,
    out: PathLike = "recipe.yaml",
    losses: str | Sequence[str] = ("dpop",),
    suites: str | Sequence[str] = ("open_llm_v1",),
    tasks: str | Sequence[str] | None = None,
    gpus: str | None = None,
    source: str | None = None,
    data_root: PathLike | None = None,
    force: bool = False,
) -> Path:
    """Write a commented recipe that :func:`prepare` accepts, beside it its schema; return its path.

    Args:
        pairs: A pair file or Hub data set to train on; None to train nothing.
        out: The YAML file; the run gets its name.
        losses: Losses by their names in recipes, a training for each.
        suites: Suites to score on; empty to score nothing.
        tasks: Tasks of suite ``lm_eval``, which needs them.
        gpus: GPUs by kind and number, such as ``H200x8``, to which batch, LoRA and sharding are fitted; None for the
            CPU.
        source: ``rows``, ``metamath``, ``arc`` or ``hellaswag``; what fits known data sets if None, else ``rows``.
        force: Replace files that are there.

    Raises:
        SmaugError: a file is there already, or the choices make no recipe.
    """
    from smaug_eval.planning.draft import CPU, RecipeChoices, write_recipe

    choices = RecipeChoices(
        path_text(model, "model"),
        None if pairs is None else path_text(pairs, "pairs"),
        losses=name_list(losses, "losses"),
        suites=name_list(suites, "suites"),
        tasks=name_list(tasks, "tasks"),
        gpu=gpus or CPU,
        source=source,
        data_root=_text(data_root),
    )
    return write_recipe(choices, Path(out), force=force)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe; see :func:`smaug_eval.runs.recipe_schema.recipe_schema`."""
    from smaug_eval.runs.recipe_schema import recipe_schema

    return recipe_schema()


def plan(
    recipe: PathLike | Mapping[str, Any] | Recipe,
    *,
    gpus: str | Sequence[str] = ("H200x8",),
    overrides: str | Sequence[str] = (),
    runs: PathLike = DEFAULT_RUNS,
    utilisation: float = 0.4,
) -> RecipePlan:
    """Return what a recipe will take.

    Memory of each GPU, steps, tokens and hours of each stage; nothing is loaded or changed.

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

    machines = [parse_machine(gpu) for gpu in name_list(gpus, "gpus")]
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
    model_revision: str | None = None,
    data_root: PathLike | None = None,
    pair_settings: Mapping[str, Any] | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> RunResult:
    """Train one checkpoint; it lies in ``train/<loss>/checkpoint`` of the run directory.

    Args:
        pairs: A pair file or data set.
        loss: A loss by its name in recipes, such as ``dpo`` or ``dpop``.
        source: ``rows`` for ready-made pairs; ``metamath``, ``arc`` or ``hellaswag`` to make them from such rows.
        pair_settings: Further keys of the pair set, as in a recipe.
        **settings: Further keys of the training, as in a recipe (``beta=0.1``, ``steps=200``, ``lora={"r": 16}``).
    """
    recipe = {
        "name": name or _run_name("train", model, loss),
        "model": _model(model, model_revision, dtype=dtype, trust_remote_code=trust_remote_code),
        "data_root": _text(data_root),
        "pairs": {"pairs": {"source": source, "path": path_text(pairs, "pairs"), **(pair_settings or {})}},
        "trainings": {loss: {"loss": loss, **settings}},
    }
    return run(recipe, runs=runs, reporter=reporter, command=command)


def evaluate(
    model: PathLike | Sequence[PathLike],
    *,
    baseline: str | None = None,
    suite: str = "open_llm_v1",
    tasks: str | Sequence[str] | None = None,
    limit: float | None = None,
    against: PathLike | None = None,
    stop: str | None = None,
    within: float | None = None,
    name: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    model_revision: str | None = None,
    data_root: PathLike | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> RunResult:
    """Score one model or several on a suite, and report.

    lm-eval's files lie in ``eval/base/<suite>`` of the run directory; of several models in ``eval/<name>/<suite>``,
    where the name is the last part of the path or Hub id.

    Args:
        model: One model, or several. A PEFT adapter stands beside the base that it names.
        baseline: Of several, the one that the others are compared with, as given or by its name; the first if None.
        suite: ``open_llm_v1``, ``open_llm_v2``, ``lm_eval`` (tasks, tags and groups of lm-eval, named by ``tasks``),
            ``lm_eval_0413`` (lm-eval's own tasks with the first leaderboard's shots) or ``demo``.
        limit: First documents of each task, or the share of them if below 1; None for all.
        against: A model that is scored, too, and that the others are compared with; with ``stop`` also a run, or
            results, of one model with every document.
        stop: ``decided`` to score documents in random order until each column is decided (docs/sequential.md).
        within: With ``stop``: points below which a difference is too small to matter.
        **settings: Further keys of the evaluation, as in a recipe (``engine="vllm"``, ``num_fewshot=5``).
    """
    evaluation = {"suite": suite, "tasks": name_list(tasks, "tasks") or None, "limit": limit, **settings}
    evaluation |= {key: value for key, value in (("stop", stop), ("within", within)) if value is not None}
    if against is not None:
        if baseline is not None:
            raise SmaugError("baseline and against name the same thing", fix="give one of them")
        if _is_results(against):
            if stop is None:
                raise SmaugError(
                    f"against: {against} holds results, which only stop=decided compares with while scoring",
                    fix="set stop, or score the model and give both to the report",
                )
            evaluation["against"] = str(Path(path_text(against, "against")).absolute())
        else:
            first, *more = model if isinstance(model, list | tuple) else [_first_of(model)]
            model, baseline = [against, first, *more], path_text(against, "against")
    recipe = {
        **_models(model, baseline, model_revision, dtype=dtype, trust_remote_code=trust_remote_code),
        "name": name or _run_name("eval", _first_of(model), suite),
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
    model_revision: str | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    command: str | None = None,
    **settings: Any,
) -> RunResult:
    """Answer MT-Bench with one model, judge the answers, and report; the files lie in ``mt-bench`` of the run.

    Args:
        judge: Keys of ``mt_bench.<name>.judge`` in a recipe (``{"model": "gpt-4-0613"}``), or ``demo``.
        questions: ``mt_bench``, ``demo``, or a folder in FastChat's layout.
        **settings: Further keys of ``mt_bench.<name>`` in a recipe (``chat_template="llama-2"``, ``engine="vllm"``).
    """
    if callable(judge):
        raise SmaugError(
            "judge: a function cannot be recorded in a run directory, which could then not be continued",
            fix="call answer_mt_bench, and judge_mt_bench with judge=<the function>",
        )
    dialogues = {"questions": path_text(questions, "questions"), "judge": judge, **settings}
    recipe = {
        "name": name or _run_name("mt-bench", model, "judged"),
        "model": _model(model, model_revision, dtype=dtype, trust_remote_code=trust_remote_code),
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
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of a tokenizer, to count tokens too.
        **settings: Further keys of the pair set, as in a recipe.

    Returns:
        The statistics that ``stats.json`` holds.

    Raises:
        SmaugError: a setting or a row is wrong.
    """
    from smaug_eval.trainers.pairs.build import build_pairs as build

    if source == "mixture":
        raise SmaugError("a mixture draws from other pair sets", fix="describe it in a recipe, beside its sets")
    recipe = {
        "name": "pairs",
        "model": "embedded:demo-model",
        "pairs": {"pairs": {"source": source, "path": path_text(path, "path"), **settings}},
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
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Measure ready-made pairs: lengths, prompt to completion, and how far chosen and rejected lie apart.

    Args:
        path: A pair file, a folder that ``build_pairs`` wrote, or a Hub data set.
        tokenizer: Folder, Hub id or ``embedded:demo-model`` of a tokenizer, to count tokens too.
        columns: Columns under other names, such as ``{"prompt": "instruction"}``: by the name here, that in the rows.

    Returns:
        The fields of :class:`smaug_eval.trainers.pairs.stats.PairFileStats` as plain data.

    Raises:
        SmaugError: the rows or the tokenizer cannot be read, or there is no pair to measure.
    """
    from smaug_eval.trainers.pairs.stats import pair_stats as measure

    stats = measure(
        path_text(path, "path"),
        tokenizer=_text(tokenizer),
        data_root=Path(data_root) if data_root else None,
        config=config,
        split=split,
        revision=revision,
        columns=columns,
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
    columns: Mapping[str, str] | None = None,
    model_revision: str | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Diagnose how a model scores preference pairs: before, at and after the edit, by edit distance, CHES, gradients.

    Args:
        pairs: A pair file, a folder that ``build_pairs`` wrote (its held-out pairs, if it has any), or a Hub data set.
        reference: The model before training, to see what the training changed.
        limit: First pairs to look at; all if None.
        max_length: Tokens of prompt and completion together.
        gradient_pairs: Pairs of which the gradients of chosen and rejected are compared; 0 for none.
        seed: Which pairs those are.
        columns: As of :func:`pair_stats`.

    Returns:
        Plain data, described at :func:`smaug_eval.trainers.diagnosis.diagnose_model`.

    Raises:
        SmaugError: a model or the pairs cannot be used.
    """
    from smaug_eval.trainers.diagnosis import DiagnosisSettings, check_models, diagnose_model, read_preferences
    from smaug_eval.trainers.launch import refuse_foreign_launch

    refuse_foreign_launch()
    source = _named(model, model_revision)
    how = DiagnosisSettings(limit, dtype, max_length, gradient_pairs, seed)
    check_models(source, _text(reference), how)
    read = read_preferences(
        path_text(pairs, "pairs"),
        data_root=Path(data_root) if data_root else None,
        config=config,
        split=split,
        revision=revision,
        columns=columns,
    )
    return diagnose_model(
        source,
        read,
        reference=_text(reference),
        settings=how,
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def check_contamination(
    model: PathLike,
    *,
    reference: PathLike,
    tasks: str | Sequence[str] | None = None,
    suite: str = "open_llm_v1",
    limit: int | None = 100,
    dtype: str = "auto",
    model_revision: str | None = None,
    data_root: PathLike | None = None,
    runs: PathLike = DEFAULT_RUNS,
    reporter: Reporter | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return the share of benchmark documents that a model finds more likely than what a reference model makes of them.

    What is computed lies in ``contamination`` of the runs directory; the same call continues an interrupted one.

    Args:
        reference: The reference model, in the same forms; published figures take ``huggyllama/llama-7b``.
        suite: ``open_llm_v1``, ``open_llm_v2`` or ``demo``.
        limit: Documents of each task; all if None.
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
        _named(model, model_revision),
        path_text(reference, "reference"),
        suite=find_suite(suite),
        tasks=name_list(tasks, "tasks") or None,
        settings=check_settings({"limit": limit, "dtype": dtype, **settings}),
        data_root=Path(data_root) if data_root else None,
        journals=Path(runs) / "contamination",
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def check_pair_overlap(
    pairs: PathLike,
    *,
    tasks: str | Sequence[str] | None = None,
    suite: str = "open_llm_v1",
    data_root: PathLike | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Return which documents of the evaluated splits stand in training pairs, whole or in runs of words.

    Args:
        pairs: A pair file, a folder that ``build_pairs`` wrote, or a Hub data set.
        suite: ``open_llm_v1``, ``open_llm_v2`` or ``demo``.

    Returns:
        Plain data, described at :func:`smaug_eval.contamination.overlap.check_pairs`.

    Raises:
        SmaugError: the pairs, a task or its data cannot be used.
    """
    from smaug_eval.contamination.overlap import check_pairs
    from smaug_eval.leaderboard.registry import find_suite

    return check_pairs(
        path_text(pairs, "pairs"),
        suite=find_suite(suite),
        tasks=name_list(tasks, "tasks") or None,
        data_root=Path(data_root) if data_root else None,
        reporter=reporter or Reporter(make_console(), quiet=True),
    )


def merge(
    adapter: PathLike,
    out: PathLike,
    *,
    base: str | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Path:
    """Merge a PEFT adapter into its base: a checkpoint that loads by itself, with tokenizer and model card.

    Args:
        adapter: Folder with ``adapter_config.json`` and ``adapter_model.safetensors``, ours or anybody's, or a Hub id.
        out: New folder for the checkpoint.
        base: Folder, Hub id or ``embedded:demo-model`` of the base; what the adapter names if None.
        revision: Branch, tag or commit of an adapter on the Hub.
        dtype: Type of the weights, ``auto`` for the base's own.
        reporter: Receives what rounding the weights lost.

    Returns:
        The folder.

    Raises:
        SmaugError: the adapter is pickled, damaged, or made for another base, the merged model is another than base and
            adapter, or ``out`` is in use.
    """
    from smaug_eval.trainers.merge import merge_adapter, named_base

    folder = locate_adapter(path_text(adapter, "adapter"), revision=revision)
    found = locate(base, uses=[Use.MERGE]) if base else _named_base(*named_base(folder))
    merge_adapter(
        folder,
        base_path=found.path,
        base_name=found.path.name if Path(found.source).exists() else found.source,
        base_sha256=found.sha256,
        dtype=found.dtype if dtype == "auto" else dtype,
        out_dir=Path(out),
        hub_id=found.hub_id,
        on_note=(reporter or Reporter(make_console(), quiet=True)).say,
    )
    return Path(out)


def _named_base(name: str, revision: str | None) -> Checkpoint:
    """The base model that an adapter names."""
    try:
        return locate(name, revision=None if Path(name).exists() else revision, uses=[Use.MERGE])
    except SmaugError as error:
        raise SmaugError(
            f"the base that the adapter names cannot be used: {error.message}", fix=f"name it with --base; {error.fix}"
        ) from error


def report(
    paths: PathLike | Sequence[PathLike],
    out: PathLike | None = None,
    *,
    title: str | None = None,
    baseline: str | None = None,
    format_: str = "html",
    archive: PathLike | None = None,
    metrics: Sequence[str] = (),
    strict: bool = False,
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
        metrics: Metrics to stand for tasks of no suite, ``METRIC[,FILTER]`` or ``TASK=METRIC[,FILTER]``; each task's
            first one otherwise.
        strict: Raise, after the report is written, where a file that looks like results could not be read.

    Raises:
        SmaugError: nothing to report is found or can be read, or there is no such baseline, metric or format.
    """
    from smaug_eval.reports import build_report

    return build_report(
        path_list(paths, "paths"),
        Path(f"report.{format_}" if out is None else out),
        title=title,
        baseline=baseline,
        format_=format_,
        archive=None if archive is None else Path(archive),
        metrics=metrics,
        strict=strict,
    )


def gate(
    run: PathLike,
    baseline: PathLike | None = None,
    *,
    policy: PathLike | Mapping[str, Any] | None = None,
    models: str | Sequence[str] = (),
    baseline_model: str | None = None,
    metrics: Sequence[str] = (),
    junit: PathLike | None = None,
    summary: PathLike | None = None,
    out: PathLike | None = None,
) -> GateResult:
    """Return rule on a run for a pipeline: pass, fail or cannot tell; see :func:`smaug_eval.gating.gate.gate_run`.

    Args:
        run: What :func:`report` reads, with the models to judge.
        baseline: The path of another run or results, or a model of ``run``; its model "base" if None.
        policy: A YAML file or plain data; no average and no column worse if None.
        models: Those of ``run`` to judge; all but the baseline if empty.
        baseline_model: Which model, where the path ``baseline`` holds several.
        metrics: Metrics to stand for tasks of no suite, as of :func:`report`.
        junit: JUnit XML to write.
        summary: Markdown to append a summary to.
        out: JSON to write.

    Returns:
        The ruling: ``verdict``, ``exit_code`` (0 pass, 4 fail, 5 cannot tell), ``checks`` and ``as_dict()``.

    Raises:
        SmaugError: the policy is wrong, a path cannot be read, or a name is unknown.
    """
    from smaug_eval.gating import gate_run
    from smaug_eval.gating.formats import refuse_unwritable, write_gate

    files = [None if file is None else Path(path_text(file, "file")) for file in (junit, summary, out)]
    refuse_unwritable(*files)
    found = gate_run(
        Path(path_text(run, "run")),
        None if baseline is None else path_text(baseline, "baseline"),
        policy=policy if policy is None or isinstance(policy, Mapping) else Path(path_text(policy, "policy")),
        models=name_list(models, "models"),
        baseline_model=baseline_model,
        metrics=metrics,
    )
    write_gate(found, junit_file=files[0], summary=files[1], json_file=files[2])
    return found


def scores(
    paths: PathLike | Sequence[PathLike], *, baseline: str | None = None, metrics: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the scores of runs and of anybody's results as a data frame; see :func:`smaug_eval.results.frame.scores`.

    Where there are judged answers only, it is :func:`judged_scores` in the same columns.
    """
    from smaug_eval.results import frame as tables

    given = path_list(paths, "paths")
    found = tables.scores(given, baseline=baseline, metrics=metrics)
    return tables.judged_scores(given, baseline=baseline) if found.empty else found


def judged_scores(paths: PathLike | Sequence[PathLike], *, baseline: str | None = None) -> pd.DataFrame:
    """Return judges' scores of runs and FastChat's files as a data frame.

    See :func:`smaug_eval.results.frame.judged_scores`.
    """
    from smaug_eval.results import frame as tables

    return tables.judged_scores(path_list(paths, "paths"), baseline=baseline)


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


def publish(
    run: PathLike,
    model: str,
    repo: str,
    *,
    private: bool = False,
    weights: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Publication:
    """Send a trained model to the Hub: its checkpoint, a model card with the results, and the report.

    The token comes from the environment. Texts are sent without paths of this machine. What the repository has by the
    same SHA-256 is not sent, so the same call goes on after an interruption.

    Args:
        run: The run directory.
        model: A training of the run.
        repo: ``ORGANISATION/NAME``; made where it is not there.
        private: Make a new repository private.
        weights: ``merged`` or ``adapter``, of a LoRA training; what was evaluated if None.
        license: Its identifier on the Hub, such as ``apache-2.0``.
        base_model: The base's id on the Hub, where the run names it by a folder.
        dry_run: Find out what would be created and sent, and change nothing.

    Returns:
        The files, which of them the repository has, and the commit.

    Raises:
        SmaugError: the training is not finished, there is no token, or the Hub refuses.
    """
    from smaug_eval.common.hub_errors import is_offline
    from smaug_eval.sharing.publishing import prepare_publication, push

    found = prepare_publication(
        Path(run),
        model,
        repo,
        private=private,
        weights=weights,
        license_=license,
        base_model=base_model,
        ask_hub=not (dry_run and is_offline()),
    )
    voice = reporter or Reporter(make_console(), quiet=True)
    return found if dry_run else push(found, on_note=voice.say, bars=not voice.quiet)


def export(
    paths: PathLike | Sequence[PathLike],
    to: str,
    out: PathLike | None = None,
    *,
    organization: str = "unknown",
    relationship: str = "other",
    force: bool = False,
) -> list[Path]:
    """Export results in the format of other programs; return the files.

    Args:
        paths: Run directories, folders or files of lm-eval results.
        to: ``eee`` (Every Eval Ever, schema 0.3.0), ``lm-eval`` (its folders of results and samples) or ``csv``.
        out: A new folder, of ``csv`` a file; ``export-<to>`` or ``export.csv`` if None.
        organization: For ``eee``, the name of who measured.
        relationship: For ``eee``, of who measured to the model's developer: ``first_party``, ``third_party``,
            ``collaborative`` or ``other``.
        force: Write where there are files already.

    Raises:
        SmaugError: the format is unknown, nothing is there to export, or ``out`` is in use.
    """
    from smaug_eval.sharing.every_eval_ever import Evaluator
    from smaug_eval.sharing.exporting import export_results

    place = Path(out) if out is not None else Path("export.csv" if to == "csv" else f"export-{to}")
    evaluator = Evaluator(organization, relationship)
    return export_results(path_list(paths, "paths"), to, place, evaluator=evaluator, force=force)


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
        name=name or _run_name("reproduce", source, row.model.rpartition("/")[2]),
        tasks=name_list(tasks, "tasks") or None,
        limit=limit,
        dtype=dtype,
        data_root=_text(data_root),
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


def score_views(paths: PathLike | Sequence[PathLike]) -> list[ModelViews]:
    """Score runs, or anybody's lm-eval results, by the leaderboard's rules and by lm-eval 0.4.13's.

    See :func:`smaug_eval.results.views.score_views`.
    """
    from smaug_eval.results import views as model_views

    return model_views.score_views(path_list(paths, "paths"))


def doctor(runs: PathLike = DEFAULT_RUNS) -> list[Finding]:
    """Return what this machine can run."""
    return examine(Path(runs))


def _checked(recipe: PathLike | Mapping[str, Any] | Recipe, overrides: str | Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe)
    return load_recipe(find_recipe(path_text(recipe, "recipe")), name_list(overrides, "overrides"))


def _named(model: PathLike, revision: str | None) -> str:
    """A model's name, with its revision on the Hub where there is one."""
    name, revision = with_revision(path_text(model, "model"), revision)
    return name if revision is None else f"{name}@{revision}"


def _model(model: PathLike, revision: str | None, **settings: Any) -> dict[str, Any]:
    """A recipe's model."""
    name, revision = with_revision(path_text(model, "model"), revision)
    return {"path": name, **({} if revision is None else {"revision": revision}), **settings}


def _first_of(model: PathLike | Sequence[PathLike]) -> PathLike:
    if not isinstance(model, list | tuple):
        return path_text(model, "model")
    if not model:
        raise SmaugError("there is no model to score", fix="name one or several")
    return path_text(model[0], "model")


def _models(
    model: PathLike | Sequence[PathLike], baseline: str | None, revision: str | None, **how: Any
) -> dict[str, Any]:
    """The part of a recipe that names its models: the base where there is one, else several by their own names."""
    first = _first_of(model)
    given = [path_text(each, "model") for each in (model if isinstance(model, list | tuple) else [first])]
    if len(given) == 1:
        if baseline is not None and baseline != given[0]:
            raise SmaugError(f"baseline {baseline!r}: one model is given, and it is the baseline", fix="leave it out")
        return {"model": _model(given[0], revision, **how)}
    if revision is not None:
        raise SmaugError("one revision for several models", fix="name each as NAME@REVISION")
    if repeated := [each for each in dict.fromkeys(given) if given.count(each) > 1]:
        raise SmaugError(f"model {repeated[0]} is given twice", fix="name each model once")
    names = distinct_names(given)
    own = dict(zip(names, given, strict=True))
    wanted = names[0] if baseline is None else next((name for name in names if baseline in (name, own[name])), None)
    if wanted is None:
        raise SmaugError(f"baseline {baseline!r} is none of the models", fix=f"there is {', '.join(names)}")
    return {"models": {name: {"path": path, **how} for name, path in own.items()}, "report": {"baseline": wanted}}


def _is_results(path: PathLike) -> bool:
    """Whether a path holds results rather than a model."""
    place = given_path(path_text(path, "against"))
    is_model = any((place / name).is_file() for name in ("config.json", "adapter_config.json"))
    return is_there(place) and not is_model


def _run_name(verb: str, model: PathLike, what: str) -> str:
    name, _ = with_revision(path_text(model, "model"))
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rstrip("/").rpartition("/")[2]).strip("-.") or "model"
    return f"{verb}-{stem}-{what}"[:64]


def _text(path: PathLike | None) -> str | None:
    return None if path is None else path_text(path, "path")
