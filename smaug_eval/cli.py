"""The command line: one short function per verb, no logic. Heavy imports happen inside the verbs."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from smaug_eval import __version__
from smaug_eval.errors import EXIT_INTERRUPTED, SmaugError
from smaug_eval.mt_bench_cli import mt_bench_app
from smaug_eval.redaction import hide_keys_in_tracebacks
from smaug_eval.streams import fit_standard_streams, written_out

if TYPE_CHECKING:
    from smaug_eval.console import Reporter
    from smaug_eval.pipeline import Pipeline, RunResult

app = typer.Typer(
    name="smaug-eval",
    help="Train with DPO and DPO-Positive, evaluate on the Open LLM Leaderboard v1, and report what changed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 2 bad input, 3 interrupted (the same command continues).",
)
pairs_app = typer.Typer(help="Make and check preference pairs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(pairs_app, name="pairs")
app.add_typer(mt_bench_app, name="mt-bench")

# typer reads these annotations at run time, on Python 3.10 too.
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, such as trainings.dpop.beta=0.1."),
]
Runs = Annotated[Path, typer.Option("--runs-dir", help="Where run directories are.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the stages and where they stand; change nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result only.")]
Ray = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--ray", metavar="ADDRESS", help="Work on a Ray cluster: HOST:PORT, or auto for this machine's."),
]
Name = Annotated[Optional[str], typer.Option("--name", help="Name of the run; made from the arguments if left out.")]  # noqa: UP045
DataRoot = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--data-root", envvar="SMAUG_DATA_ROOT", help="Offline mirror of the Hub's data sets."),
]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, or auto for the checkpoint's own.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that came with the model; read it before.")
]
Tokenizer = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--tokenizer", metavar="MODEL", help="Count its tokens too: folder, Hub id or embedded:demo-model."),
]
DEFAULT_RUNS = Path("runs")


def main() -> NoReturn:
    """Run the command line; a problem the user can mend is one message, never a traceback."""
    hide_keys_in_tracebacks()
    fit_standard_streams()
    try:
        with written_out():
            app()
    except SmaugError as error:
        _print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)


def _version(value: bool) -> None:
    if value:
        print(f"smaug-eval {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every verb."""


@app.command()
def demo(overrides: Overrides = None, runs: Runs = DEFAULT_RUNS, dry_run: DryRun = False, quiet: Quiet = False) -> None:
    """Run the embedded demo: train DPO and DPO-Positive on a tiny model, evaluate, report. Minutes on two cores."""
    _run("demo", overrides, runs, dry_run, quiet)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a committed recipe.")],
    overrides: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    ray: Ray = None,
) -> None:
    """Do everything a recipe says that is not done yet."""
    _run(recipe, overrides, runs, dry_run, quiet, ray)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a committed recipe.")],
    gpu: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--gpu", metavar="KIND[xN]", help="GPUs, such as H200x8 or A100-80x4; may be repeated."),
    ] = None,
    utilisation: Annotated[
        float, typer.Option("--utilisation", min=0.01, max=1.0, help="Share of the peak FLOP/s that is reached.")
    ] = 0.4,
    overrides: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a recipe will take: memory of each GPU, steps, tokens and hours; nothing is loaded or changed."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.planning.plan_tables import plan_tables

    found = api.plan(recipe, gpus=gpu or ["H200x8"], overrides=overrides or (), runs=runs, utilisation=utilisation)
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        Console().print(plan_tables(found))


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the base model.")],
    pairs: Annotated[str, typer.Argument(help="Pair file (.jsonl, .jsonl.gz, .parquet) or Hub data set.")],
    loss: Annotated[
        str, typer.Option("--loss", help="dpo, dpop, dpop_v1_misprint, ipo, ipo_averaged, hinge, slic or sft.")
    ] = "dpop",
    source: Annotated[
        str,
        typer.Option("--source", help="rows: ready-made pairs; metamath, arc, hellaswag: make them from such rows."),
    ] = "rows",
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the training, such as beta=0.1 or lora.r=16."),
    ] = None,
    pair_overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set-pairs", metavar="KEY=VALUE", help="A key of the pair set, such as holdout=16."),
    ] = None,
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = False,
    data_root: DataRoot = None,
    name: Name = None,
    runs: Runs = DEFAULT_RUNS,
    quiet: Quiet = False,
) -> None:
    """Train one checkpoint on preference pairs."""
    from smaug_eval import api

    with _reporter(quiet) as reporter:
        result = api.train(
            model,
            pairs,
            loss=loss,
            source=source,
            name=name,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            data_root=data_root,
            pair_settings=_without(pair_overrides, ("path", "source"), "--set-pairs"),
            runs=runs,
            reporter=reporter,
            command=_command(),
            **_settings(overrides, api.train),
        )
    _show(result, quiet)
    print(f"checkpoint: {result.path / 'train' / loss / 'checkpoint'}")


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the model.")],
    suite: Annotated[str, typer.Option("--suite", help="open_llm_v1, lm_eval_0413 or demo.")] = "open_llm_v1",
    task: Annotated[Optional[list[str]], typer.Option("--task", help="Task of the suite; may be repeated.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option("--limit", help="First documents of each task.")] = None,  # noqa: UP045
    engine: Annotated[str, typer.Option("--engine", help="auto, torch, vllm, hf or lm-eval-vllm.")] = "auto",
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the evaluation, such as batch_size=16."),
    ] = None,
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = False,
    data_root: DataRoot = None,
    name: Name = None,
    runs: Runs = DEFAULT_RUNS,
    quiet: Quiet = False,
) -> None:
    """Score one model on a benchmark suite."""
    from smaug_eval import api

    with _reporter(quiet) as reporter:
        result = api.evaluate(
            model,
            suite=suite,
            tasks=task,
            limit=limit,
            name=name,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            data_root=data_root,
            runs=runs,
            reporter=reporter,
            command=_command(),
            engine=engine,
            **_settings(overrides, api.evaluate),
        )
    _show(result, quiet)


@pairs_app.command("build")
def pairs_build(
    path: Annotated[str, typer.Argument(help="Rows to make pairs from, ready-made pairs, or a Hub data set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl, eval.jsonl and stats.json.")],
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help="metamath: falsify one intermediate result; arc, hellaswag: the correct choice against each wrong "
            "one; rows: check ready-made pairs.",
        ),
    ] = "metamath",
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the pair set, such as shots=[0,2] or holdout=100."),
    ] = None,
    tokenizer: Tokenizer = None,
    data_root: DataRoot = None,
) -> None:
    """Make preference pairs, or check ready-made ones, and print what they hold."""
    import json

    from smaug_eval import api

    settings = _settings(overrides, api.build_pairs)
    stats = api.build_pairs(path, out, source=source, data_root=data_root, tokenizer=tokenizer, **settings)
    print(json.dumps(stats, indent=2, ensure_ascii=False))


@pairs_app.command("stats")
def pairs_stats(
    path: Annotated[str, typer.Argument(help="Pair file, folder that pairs build wrote, or Hub data set.")],
    tokenizer: Tokenizer = None,
    config: Annotated[Optional[str], typer.Option("--config", help="Configuration of the data set.")] = None,  # noqa: UP045
    split: Annotated[Optional[str], typer.Option("--split", help="Split of the data set.")] = None,  # noqa: UP045
    revision: Annotated[Optional[str], typer.Option("--revision", help="Revision of the data set.")] = None,  # noqa: UP045
    data_root: DataRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure ready-made pairs: lengths, and how far chosen and rejected lie apart."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.pair_tables import pair_tables

    stats = api.pair_stats(
        path, tokenizer=tokenizer, data_root=data_root, config=config, split=split, revision=revision
    )
    if as_json:
        print(json.dumps(stats, indent=2, ensure_ascii=False))
    else:
        Console().print(pair_tables(stats))


@app.command()
def diagnose(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the model.")],
    pairs: Annotated[str, typer.Argument(help="Pair file, folder that pairs build wrote, or Hub data set.")],
    reference: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--reference", metavar="MODEL", help="The model before training, to see what changed."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option("--limit", min=1, help="First pairs to look at.")] = None,  # noqa: UP045
    max_length: Annotated[
        int, typer.Option("--max-length", min=2, help="Tokens of prompt and completion together.")
    ] = 1024,
    gradient_pairs: Annotated[
        int, typer.Option("--gradient-pairs", min=0, help="Pairs of which to compare the gradients; 0 for none.")
    ] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which pairs those are.")] = 42,
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, bfloat16, or auto for the checkpoint's own.")
    ] = "auto",
    config: Annotated[Optional[str], typer.Option("--config", help="Configuration of the data set.")] = None,  # noqa: UP045
    split: Annotated[Optional[str], typer.Option("--split", help="Split of the data set.")] = None,  # noqa: UP045
    revision: Annotated[Optional[str], typer.Option("--revision", help="Revision of the data set.")] = None,  # noqa: UP045
    data_root: DataRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", dir_okay=False, help="Write the JSON to this file, too."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """See what a model thinks of preference pairs, and what a training did to them."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.diagnosis_tables import diagnosis_tables
    from smaug_eval.files import write_json

    with _reporter(quiet) as reporter:
        found = api.diagnose(
            model,
            pairs,
            reference=reference,
            limit=limit,
            dtype=dtype,
            max_length=max_length,
            gradient_pairs=gradient_pairs,
            seed=seed,
            data_root=data_root,
            config=config,
            split=split,
            revision=revision,
            reporter=reporter,
        )
    if out is not None:
        write_json(out, found)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        Console().print(diagnosis_tables(found))


@app.command()
def contamination(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Folder or Hub id of the model to examine; left out where only pairs are."),
    ] = None,
    reference: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--reference", metavar="MODEL", help="The reference model, such as huggyllama/llama-7b."),
    ] = None,
    pairs: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--pairs", metavar="PAIRS", help="Training pairs to search: file, built folder or Hub data set."),
    ] = None,
    task: Annotated[Optional[list[str]], typer.Option("--task", help="Task of the suite; may be repeated.")] = None,  # noqa: UP045
    suite: Annotated[str, typer.Option("--suite", help="open_llm_v1 or demo.")] = "open_llm_v1",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Documents of each task to show the models.")] = 100,
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="batch_size, seed, device or engine_args.<name>=<value>."),
    ] = None,
    dtype: Dtype = "auto",
    data_root: DataRoot = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Say whether a model, or training pairs, have seen a benchmark's documents."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.contamination.tables import model_tables, overlap_tables

    if (model is None) != (reference is None) or (model is None and pairs is None):
        raise SmaugError("what to check is missing", fix="give MODEL with --reference MODEL, or --pairs, or both")
    found: dict[str, Any] = {}
    with _reporter(quiet) as reporter:
        where: dict[str, Any] = {"tasks": task, "suite": suite, "data_root": data_root, "reporter": reporter}
        if pairs is not None:
            found["pairs"] = api.check_pair_overlap(pairs, **where)
        if model is not None and reference is not None:
            settings = _settings(overrides, api.check_contamination)
            found["model"] = api.check_contamination(
                model, reference=reference, limit=limit, dtype=dtype, runs=runs, **where, **settings
            )
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for part, tables in (("pairs", overlap_tables), ("model", model_tables)):
        if part in found:
            Console().print(tables(found[part]))


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of a PEFT adapter (adapter_config.json, safetensors).")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the checkpoint.")],
    base: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--base", help="Folder or Hub id of the base model; what the adapter names if left out."),
    ] = None,
    dtype: Dtype = "auto",
) -> None:
    """Merge an adapter into its base: a checkpoint that loads by itself."""
    from smaug_eval import api

    print(api.merge(adapter, out, base=base, dtype=dtype))


@app.command()
def report(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Run directories, lm-eval results, training logs, FastChat judgments or answers."),
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", dir_okay=False, help="The file to write; report.<format> where left out."),
    ] = None,
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--baseline", help="Model that differences are taken against."),
    ] = None,
    title: Annotated[Optional[str], typer.Option("--title", help="Heading of the report.")] = None,  # noqa: UP045
    format_: Annotated[
        str, typer.Option("--format", help="html, md (a summary for a pull request) or json (the numbers).")
    ] = "html",
    archive: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--archive", help="Rows of the archived leaderboard (CSV, CSV.gz), to rank models in."),
    ] = None,
) -> None:
    """Write one report over runs, lm-eval results, training logs and judged answers."""
    from smaug_eval import api

    print(api.report(paths, out, title=title, baseline=baseline, format_=format_, archive=archive))


@app.command("requests")
def dump_requests(
    suite: Annotated[str, typer.Option("--suite", help="open_llm_v1 or demo.")] = "open_llm_v1",
    task: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--task", help="Column or task, such as arc_challenge or mmlu_anatomy; may be repeated."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option("--limit", min=1, help="First documents of each task.")] = None,  # noqa: UP045
    data_root: DataRoot = None,
    out: Annotated[str, typer.Option("--out", help="File to write (.jsonl, .jsonl.gz); - for standard output.")] = "-",
) -> None:
    """Write every request of a suite in protocol order, one line per document."""
    from datasets import disable_progress_bars

    from smaug_eval import api
    from smaug_eval.standings import dump_lines

    disable_progress_bars()
    target = sys.stdout.buffer if out == "-" else out
    written = api.dump_requests(target, suite=suite, tasks=task, limit=limit, data_root=data_root)
    for line in dump_lines(written):
        print(line, file=sys.stderr)


@app.command()
def leaderboard(
    paths: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(metavar="[RUN]...", help="Run directories, folders or files of lm-eval results to rank."),
    ] = None,
    archive: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--archive", help="All rows of the leaderboard (CSV, CSV.gz), to rank among."),
    ] = None,
    include_flagged: Annotated[
        bool, typer.Option("--include-flagged", help="Also rank against models that the leaderboard flagged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show published rows of the archived leaderboard, or where runs would have ranked on it."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.standings import published_table, ranking_text

    if archive is None and (paths or include_flagged):
        raise SmaugError("ranking needs the leaderboard's rows", fix="give them with --archive FILE.csv[.gz]")
    if archive is None:
        rows = api.leaderboard_rows()
        found: Any = {"published": rows}
        shown: Any = published_table(rows)
    else:
        found = api.rank(paths or [], archive, include_flagged=include_flagged)
        shown = ranking_text(found)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        Console().print(shown)


@app.command()
def reproduce(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the model.")],
    against: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--against", metavar="NAME", help="Hub id of the published row; the model's own if left out."),
    ] = None,
    task: Annotated[Optional[list[str]], typer.Option("--task", help="Column to run; may be repeated.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option("--limit", min=1, help="First documents of each task.")] = None,  # noqa: UP045
    engine: Annotated[str, typer.Option("--engine", help="auto, torch, vllm, hf or lm-eval-vllm.")] = "auto",
    dtype: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--dtype", help="float32, bfloat16, float16 or auto; the published row's if left out."),
    ] = None,
    archive: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--archive", help="All rows of the leaderboard (CSV, CSV.gz), to find the published row in."),
    ] = None,
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the evaluation, such as batch_size=16."),
    ] = None,
    data_root: DataRoot = None,
    name: Name = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model as the leaderboard did, and say whether its published row is reproduced."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.reproduction import verdict_tables

    with _reporter(quiet) as reporter:
        found = api.reproduce(
            model,
            against=against,
            tasks=task,
            limit=limit,
            dtype=dtype,
            archive=archive,
            data_root=data_root,
            name=name,
            runs=runs,
            reporter=reporter,
            command=_command(),
            engine=engine,
            **_settings(overrides, api.reproduce),
        )
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        Console().print(verdict_tables(found))


@app.command()
def scores(
    paths: Annotated[list[Path], typer.Argument(help="Run directories, folders or files of lm-eval results.")],
    view: Annotated[
        str, typer.Option("--view", help="v1: the leaderboard's rules; modern: lm-eval 0.4.13's; both, with causes.")
    ] = "both",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score runs, or anybody's lm-eval results, on the leaderboard's rules and on lm-eval 0.4.13's."""
    import json

    from rich.console import Console

    from smaug_eval import api
    from smaug_eval.model_views import checked_view, view_lines, views_table

    shown = checked_view(view)
    found = api.score_views(paths)
    if as_json:
        print(json.dumps([views.as_dict(shown) for views in found], indent=2, ensure_ascii=False))
        return
    for views in found:
        Console().print(views_table(views, shown))
        for line in view_lines(views, shown):
            print(line)


@app.command()
def doctor(runs: Runs = DEFAULT_RUNS) -> None:
    """Say what this machine can run, and what to install for the rest."""
    from rich.console import Console
    from rich.table import Table

    from smaug_eval import api

    table = Table("", "", "found", "to do", box=None, pad_edge=False)
    marks = {"ok": "[green]ok[/]", "limited": "[yellow]limited[/]", "missing": "[red]missing[/]"}
    for finding in api.doctor(runs):
        table.add_row(finding.topic, marks[finding.status], _plain(finding.detail), _plain(finding.fix))
    Console().print(table)


def _run(
    recipe: str, overrides: list[str] | None, runs: Path, dry_run: bool, quiet: bool, ray: str | None = None
) -> None:
    from smaug_eval import api
    from smaug_eval.cluster.options import ClusterOptions

    cluster = None if ray is None else ClusterOptions(ray)
    with _reporter(quiet) as reporter:
        pipeline = api.prepare(recipe, overrides=overrides or (), runs=runs, reporter=reporter, command=_command())
        result = None if dry_run else pipeline.run(cluster)
    if result is None:
        _show_plan(pipeline)
    else:
        _show(result, quiet)


def _settings(overrides: list[str] | None, verb: Callable[..., Any]) -> dict[str, Any]:
    """The ``--set`` values of a verb; those that it has an argument or option of its own for are refused."""
    return _without(overrides, inspect.signature(verb).parameters.keys(), "--set")


def _without(overrides: list[str] | None, taken: Iterable[str], option: str) -> dict[str, Any]:
    from smaug_eval.recipe import parse_settings

    settings = parse_settings(overrides or [])
    refused = sorted(settings.keys() & set(taken))
    if refused:
        raise SmaugError(f"{option} {refused[0]}: the command has an argument for it", fix="give it there; see --help")
    return settings


def _command() -> str:
    return shlex.join(["smaug-eval", *sys.argv[1:]])


def _reporter(quiet: bool) -> Reporter:
    from smaug_eval.console import Reporter, make_console

    return Reporter(make_console(), quiet=quiet)


def _show_plan(pipeline: Pipeline) -> None:
    from rich.console import Console
    from rich.table import Table

    from smaug_eval.study.grid import grid_of, grid_table

    table = Table("stage", "now", "why", box=None, pad_edge=False)
    words = {"done": "done", "new": "to do", "started": "to continue", "changed": "to redo", "damaged": "to redo"}
    states = pipeline.states()
    study = pipeline.recipe.study
    cells, listed = ({}, states) if study is None else grid_of(study, states)
    for stage, state in listed:
        table.add_row(stage.name, words[state.status], _plain(state.reason))
    console = Console()
    console.print(table)
    if study is not None:
        console.print(grid_table(study, cells))
    left = sum(state.status != "done" for _, state in states)
    console.print(f"{pipeline.directory.path}: {left} of {len(states)} stages to do", markup=False, highlight=False)


def _show(result: RunResult, quiet: bool) -> None:
    from rich.console import Console

    from smaug_eval.model_views import rescored_views, views_table
    from smaug_eval.mt_bench.tables import run_tables
    from smaug_eval.study.means import seed_means, study_of
    from smaug_eval.tables import note_lines, published_lines, scores, terminal_table

    frame = scores([result.path])
    study = study_of(result.path)
    shown = frame if study is None else seed_means(frame, study)
    for suite in shown["suite"].unique():
        Console().print(terminal_table(shown, suite))
        for line in note_lines(frame, suite):
            print(line)
    for views in rescored_views(result.path) if frame.empty else ():
        Console().print(views_table(views))
    for line in published_lines(result.path):
        print(line)
    for table in run_tables(result.path):
        Console().print(table)
    if not quiet and not result.did:
        print("everything was done before; nothing had changed")
    print(f"report: {result.report}")


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _print_error(error: SmaugError) -> None:
    print(f"error: {error}", file=sys.stderr)
