"""Define the verbs that make runs: demo, run, plan, train, eval, reproduce."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from smaug_eval.cli import options
from smaug_eval.cli.verbs import (
    command_line,
    print_result,
    reporter,
    settings_of,
    shown_if_incomplete,
    typed_program,
    with_keys,
)
from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.losses import LOSSES

DEMO_BEFORE = """\
The demo, from a model of two million parameters that is part of the package; nothing is downloaded:
  1. makes pairs of a right solution and the same one with a single wrong number;
  2. trains the model on them with DPO, and with DPO-Positive;
  3. scores the model before and after on six small tasks, and lets a fixed rule judge some dialogues;
  4. writes a report.
It takes about three minutes on two free CPU cores, longer where other programs use them. Ctrl-C stops it; the same
command continues."""
"""What the demo says at once, before the imports that take seconds."""
DEMO_AFTER = """
What to look at: open {run}/report.html in a browser ({uri}).
First the verdicts: is a model better than base, and by how much? Then "Training": what became of the preferred answers
and of the rejected ones, step by step.
What to type next:
  {program} report {run} --format md   the same as text
With a model of your own (a folder, or its name on the Hub) and a file whose lines have prompt, chosen and rejected:
  {program} train MODEL PAIRS.jsonl --loss dpop --name mine
  {program} eval MODEL runs/mine/train/dpop/checkpoint --suite open_llm_v1   before and after, with a report"""


def demo(
    overrides: options.Overrides = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Run the embedded demo: train DPO and DPO-Positive on a tiny model, evaluate, report. Minutes on two cores."""
    tells = not (quiet or dry_run)
    if tells:
        print(DEMO_BEFORE, file=sys.stderr, flush=True)
    run("demo", overrides, runs, dry_run, quiet)
    if tells:
        folder = Path(runs) / "demo"
        uri = (folder / "report.html").resolve().as_uri()
        print(DEMO_AFTER.format(run=shlex.quote(str(folder)), uri=uri, program=typed_program()))


def run(
    recipe: options.RecipeArgument,
    overrides: options.Overrides = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    ray: options.Ray = None,
) -> None:
    """Run everything of a recipe that is not done yet."""
    from smaug_eval import api
    from smaug_eval.cli.tables.run import print_plan, print_run
    from smaug_eval.runs.cluster.options import ClusterOptions

    with shown_if_incomplete(lambda found: print_run(found, quiet)), reporter(quiet) as progress:
        pipeline = api.prepare(recipe, overrides=overrides or (), runs=runs, reporter=progress, command=command_line())
        result = None if dry_run else pipeline.run(None if ray is None else ClusterOptions(ray))
    if result is None:
        print_plan(pipeline)
    else:
        print_run(result, quiet)


def plan(
    recipe: options.RecipeArgument,
    gpu: Annotated[
        list[str] | None,
        typer.Option("--gpu", metavar="KIND[xN]", help="GPUs, such as H200x8 or A100-80x4; may be repeated."),
    ] = None,
    utilisation: Annotated[
        float, typer.Option("--utilisation", min=0.01, max=1.0, help="Share of the peak FLOP/s that is reached.")
    ] = 0.4,
    overrides: options.Overrides = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.AsJson = False,
) -> None:
    """Estimate what a recipe will take: memory of each GPU, steps, tokens and hours; nothing is loaded or changed."""
    from smaug_eval.planning.machines import parse_machine

    for name in gpu or []:
        parse_machine(name)  # before the imports that take seconds

    from smaug_eval import api
    from smaug_eval.cli.tables.plan import plan_tables

    found = api.plan(recipe, gpus=gpu or ["H200x8"], overrides=overrides or (), runs=runs, utilisation=utilisation)
    print_result(found.model_dump(mode="json") if as_json else found, as_json, plan_tables)


def train(
    model: options.ModelArgument,
    pairs: options.PairsArgument,
    loss: Annotated[str, typer.Option("--loss", help=f"One of {', '.join(LOSSES)}.")] = "dpop",
    source: Annotated[
        str,
        typer.Option("--source", help="rows: ready-made pairs; metamath, arc, hellaswag: make them from such rows."),
    ] = "rows",
    overrides: options.TrainingKeys = None,
    pair_overrides: Annotated[
        list[str] | None,
        typer.Option("--set-pairs", metavar="KEY=VALUE", help="A key of the pair set, such as holdout=16."),
    ] = None,
    dtype: options.Dtype = "auto",
    revision: options.ModelRevision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    data_root: options.DataRoot = None,
    name: options.Name = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    quiet: options.Quiet = False,
) -> None:
    """Train one checkpoint on preference pairs."""
    from smaug_eval import api
    from smaug_eval.cli.tables.run import print_run

    with reporter(quiet) as progress:
        result = api.train(
            model,
            pairs,
            loss=loss,
            source=source,
            name=name,
            dtype=dtype,
            model_revision=revision,
            trust_remote_code=trust_remote_code,
            data_root=data_root,
            pair_settings=settings_of(pair_overrides, ("path", "source"), "--set-pairs"),
            runs=runs,
            reporter=progress,
            command=command_line(),
            **settings_of(overrides, api.train),
        )
    print_run(result, quiet)
    print(f"checkpoint: {result.path / 'train' / loss / 'checkpoint'}")


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", help="Folders or Hub ids of models or PEFT adapters; a commit or tag is NAME@REVISION."
        ),
    ],
    suite: options.Suite = "open_llm_v1",
    task: options.Task = None,
    limit: options.LimitOrShare = None,
    engine: options.Engine = "auto",
    overrides: options.EvaluationKeys = None,
    dtype: options.Dtype = "auto",
    revision: options.ModelRevision = None,
    baseline: options.Baseline = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="RUN-OR-MODEL",
            help="The model to compare with, scored too; with --stop also a run or results of one model.",
        ),
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option("--stop", metavar="decided", help="decided: score documents until every column is decided."),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option("--within", metavar="POINTS", min=0, help="With --stop: a difference too small to matter."),
    ] = None,
    trust_remote_code: options.TrustRemoteCode = False,
    data_root: options.DataRoot = None,
    name: options.Name = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    quiet: options.Quiet = False,
) -> None:
    """Score one model or several on a benchmark suite, and report."""
    from smaug_eval import api
    from smaug_eval.cli.tables.run import print_run

    with reporter(quiet) as progress:
        result = api.evaluate(
            models[0] if len(models) == 1 else models,
            baseline=baseline,
            suite=suite,
            tasks=task,
            limit=limit,
            against=against,
            stop=stop,
            within=within,
            name=name,
            dtype=dtype,
            model_revision=revision,
            trust_remote_code=trust_remote_code,
            data_root=data_root,
            runs=runs,
            reporter=progress,
            command=command_line(),
            engine=engine,
            **settings_of(overrides, _taken(api.evaluate)),
        )
    print_run(result, quiet)


def reproduce(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Folder or Hub id of the model; with --results, one of its models by name, all if left out."
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", metavar="PATH", help="Existing results, of any program; may be repeated."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="NAME", help="Hub id of the published row; the model's own if left out."),
    ] = None,
    suite: Annotated[
        str, typer.Option("--suite", help="Of which leaderboard: open_llm_v1 or open_llm_v2.")
    ] = "open_llm_v1",
    task: options.Task = None,
    limit: options.Limit = None,
    engine: options.Engine = "auto",
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float32, bfloat16, float16 or auto; the published row's if left out."),
    ] = None,
    revision: options.ModelRevision = None,
    archive: options.Archive = None,
    overrides: options.EvaluationKeys = None,
    data_root: options.DataRoot = None,
    name: options.Name = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a model as the leaderboard did, or judge existing results, and compare with the published row."""
    from smaug_eval.cli.tables.reproduction import results_tables, verdict_tables

    if results:
        from smaug_eval.leaderboard.archive import read_archive
        from smaug_eval.results.reproduced import judge_results

        given = {"--limit": limit, "--dtype": dtype, "--set": overrides, "--data-root": data_root, "--name": name}
        given["--revision"] = revision
        given["--engine"] = None if engine == "auto" else engine
        useless = ", ".join(option for option, value in given.items() if value is not None)
        if useless:
            raise SmaugError(f"{useless} would change an evaluation, and --results runs none", fix="leave it out")
        rows = None if archive is None else read_archive(archive)
        kept = judge_results(results, model=model, against=against, tasks=task, archive=rows, suite=suite)
        print_result(kept, as_json, results_tables)
        return
    if model is None:
        raise SmaugError("there is no model to measure", fix="name one, or give results with --results PATH")
    from smaug_eval import api

    with reporter(quiet) as progress:
        found = api.reproduce(
            model,
            suite=suite,
            against=against,
            tasks=task,
            limit=limit,
            dtype=dtype,
            model_revision=revision,
            archive=archive,
            data_root=data_root,
            name=name,
            runs=runs,
            reporter=progress,
            command=command_line(),
            engine=engine,
            **settings_of(overrides, _taken(api.reproduce)),
        )
    print_result(found, as_json, verdict_tables)


def _taken(verb: Callable[..., Any]) -> set[str]:
    """Keys of an evaluation that a verb or its command line has an argument for."""
    return {*inspect.signature(verb).parameters, "engine"}


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    evaluation: Any = with_keys(set="runs.recipe:EvaluationConfig")
    app.command()(demo)
    app.command()(run)
    app.command()(plan)
    app.command(cls=with_keys(set="trainers.config:TrainingConfig", set_pairs="trainers.config:RowPairs"))(train)
    app.command("eval", cls=evaluation)(evaluate)
    app.command(cls=evaluation)(reproduce)
