"""Run recipes, and train and score models without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.api.entries import (
    checked_recipe,
    first_model,
    is_results,
    model_entries,
    model_entry,
    run_name,
    text_or_none,
)
from smaug_eval.checkup import Finding, examine
from smaug_eval.common.arguments import PathLike, name_list, path_text
from smaug_eval.common.console import Reporter, make_console
from smaug_eval.common.errors import SmaugError
from smaug_eval.runs.cluster.options import ClusterOptions
from smaug_eval.runs.mt_bench import answer_mt_bench as answer_mt_bench
from smaug_eval.runs.mt_bench import judge_mt_bench as judge_mt_bench
from smaug_eval.runs.mt_bench import score_mt_bench as score_mt_bench
from smaug_eval.runs.pipeline import DEFAULT_RUNS, Pipeline, RunResult
from smaug_eval.runs.recipe import Recipe

if TYPE_CHECKING:
    from smaug_eval.planning.plans import RecipePlan


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
    checked = checked_recipe(recipe, overrides)
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
        data_root=text_or_none(data_root),
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
    checked = checked_recipe(recipe, overrides)
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
        "name": name or run_name("train", model, loss),
        "model": model_entry(model, model_revision, dtype=dtype, trust_remote_code=trust_remote_code),
        "data_root": text_or_none(data_root),
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
        if is_results(against):
            if stop is None:
                raise SmaugError(
                    f"against: {against} holds results, which only stop=decided compares with while scoring",
                    fix="set stop, or score the model and give both to the report",
                )
            evaluation["against"] = str(Path(path_text(against, "against")).absolute())
        else:
            first, *more = model if isinstance(model, list | tuple) else [first_model(model)]
            model, baseline = [against, first, *more], path_text(against, "against")
    recipe = {
        **model_entries(model, baseline, model_revision, dtype=dtype, trust_remote_code=trust_remote_code),
        "name": name or run_name("eval", first_model(model), suite),
        "data_root": text_or_none(data_root),
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
        "name": name or run_name("mt-bench", model, "judged"),
        "model": model_entry(model, model_revision, dtype=dtype, trust_remote_code=trust_remote_code),
        "mt_bench": {"dialogues": dialogues},
    }
    return run(recipe, runs=runs, reporter=reporter, command=command)


def doctor(runs: PathLike = DEFAULT_RUNS) -> list[Finding]:
    """Return what this machine can run."""
    return examine(Path(runs))
