"""The command line: one short function per verb, no logic. Heavy imports happen inside the verbs."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from smaug_eval import __version__
from smaug_eval.errors import EXIT_INTERRUPTED, SmaugError

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

# typer reads these annotations at run time, on Python 3.10 too.
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, such as trainings.dpop.beta=0.1."),
]
Runs = Annotated[Path, typer.Option("--runs-dir", help="Where run directories are.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the stages and where they stand; change nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result only.")]
Name = Annotated[Optional[str], typer.Option("--name", help="Name of the run; made from the arguments if left out.")]  # noqa: UP045
DataRoot = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--data-root", envvar="SMAUG_DATA_ROOT", help="Offline mirror of the Hub's data sets."),
]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, or auto for the checkpoint's own.")]
DEFAULT_RUNS = Path("runs")


def main() -> NoReturn:
    """Run the command line; a problem the user can mend is one message, never a traceback."""
    try:
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
) -> None:
    """Do everything a recipe says that is not done yet."""
    _run(recipe, overrides, runs, dry_run, quiet)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the base model.")],
    pairs: Annotated[str, typer.Argument(help="Pair file (.jsonl, .jsonl.gz, .parquet) or Hub data set.")],
    loss: Annotated[str, typer.Option("--loss", help="dpo or dpop (DPO-Positive).")] = "dpop",
    source: Annotated[
        str, typer.Option("--source", help="rows: ready-made pairs; metamath: make them from GSM8K-format rows.")
    ] = "rows",
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the training, such as beta=0.1 or lora.r=16."),
    ] = None,
    dtype: Dtype = "auto",
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
            data_root=data_root,
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
    suite: Annotated[str, typer.Option("--suite", help="open_llm_v1 or demo.")] = "open_llm_v1",
    task: Annotated[Optional[list[str]], typer.Option("--task", help="Task of the suite; may be repeated.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option("--limit", help="First documents of each task.")] = None,  # noqa: UP045
    engine: Annotated[str, typer.Option("--engine", help="auto, hf or vllm.")] = "auto",
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the evaluation, such as batch_size=16."),
    ] = None,
    dtype: Dtype = "auto",
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
    path: Annotated[str, typer.Argument(help="GSM8K-format rows, ready-made pairs, or a Hub data set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl, eval.jsonl and stats.json.")],
    source: Annotated[
        str, typer.Option("--source", help="metamath: falsify one intermediate result; rows: check ready-made pairs.")
    ] = "metamath",
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the pair set, such as shots=[0,2] or holdout=100."),
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Make preference pairs, or check ready-made ones, and print what they hold."""
    import json

    from smaug_eval import api

    stats = api.build_pairs(path, out, source=source, data_root=data_root, **_settings(overrides, api.build_pairs))
    print(json.dumps(stats, indent=2, ensure_ascii=False))


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(help="Run directories, folders or files of lm-eval results.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--baseline", help="Model that differences are taken against."),
    ] = None,
    title: Annotated[Optional[str], typer.Option("--title", help="Heading of the report.")] = None,  # noqa: UP045
) -> None:
    """Write one HTML report over runs and lm-eval results."""
    from smaug_eval import api

    print(api.report(paths, out, title=title, baseline=baseline))


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


def _run(recipe: str, overrides: list[str] | None, runs: Path, dry_run: bool, quiet: bool) -> None:
    from smaug_eval import api

    with _reporter(quiet) as reporter:
        pipeline = api.prepare(recipe, overrides=overrides or (), runs=runs, reporter=reporter, command=_command())
        result = None if dry_run else pipeline.run()
    if result is None:
        _show_plan(pipeline)
    else:
        _show(result, quiet)


def _settings(overrides: list[str] | None, verb: Callable[..., Any]) -> dict[str, Any]:
    """The ``--set`` values of a verb; those that it has an argument or option of its own for are refused."""
    from smaug_eval.recipe import parse_settings

    settings = parse_settings(overrides or [])
    taken = sorted(settings.keys() & inspect.signature(verb).parameters.keys())
    if taken:
        raise SmaugError(f"--set {taken[0]}: the command has an argument for it", fix="give it there; see --help")
    return settings


def _command() -> str:
    return shlex.join(["smaug-eval", *sys.argv[1:]])


def _reporter(quiet: bool) -> Reporter:
    from smaug_eval.console import Reporter, make_console

    return Reporter(make_console(), quiet=quiet)


def _show_plan(pipeline: Pipeline) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "now", "why", box=None, pad_edge=False)
    words = {"done": "done", "new": "to do", "started": "to continue", "changed": "to redo", "damaged": "to redo"}
    states = pipeline.states()
    for stage, state in states:
        table.add_row(stage.name, words[state.status], _plain(state.reason))
    console = Console()
    console.print(table)
    left = sum(state.status != "done" for _, state in states)
    console.print(f"{pipeline.directory.path}: {left} of {len(states)} stages to do", markup=False, highlight=False)


def _show(result: RunResult, quiet: bool) -> None:
    from rich.console import Console

    from smaug_eval.tables import published_lines, scores, terminal_table

    frame = scores([result.path])
    for suite in frame["suite"].unique():
        Console().print(terminal_table(frame, suite))
    for line in published_lines(result.path):
        print(line)
    if not quiet and not result.did:
        print("everything was done before; nothing had changed")
    print(f"report: {result.report}")


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _print_error(error: SmaugError) -> None:
    print(f"error: {error}", file=sys.stderr)
