"""Define the verbs that read results and lists: report, scores, leaderboard, requests, tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smaug_eval.cli import options
from smaug_eval.cli.verbs import print_result, print_whole
from smaug_eval.common.errors import SmaugError

if TYPE_CHECKING:
    from smaug_eval.results.comparison import Comparison


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Run directories, lm-eval results, training logs, FastChat judgments or answers."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", dir_okay=False, help="The file to write; report.<format> where left out."),
    ] = None,
    baseline: options.Baseline = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the report.")] = None,
    format_: Annotated[
        str, typer.Option("--format", help="html, md (a summary for a pull request) or json (the numbers).")
    ] = "html",
    archive: options.Archive = None,
    metric: options.Metric = None,
    strict: options.Strict = False,
) -> None:
    """Write one report over runs, lm-eval results, training logs and judged answers."""
    from smaug_eval.reports import build_report

    print(
        build_report(
            paths,
            Path(f"report.{format_}") if out is None else out,
            title=title,
            baseline=baseline,
            format_=format_,
            archive=archive,
            metrics=metric or (),
            strict=strict,
        )
    )


def scores(
    paths: options.ResultsArgument,
    view: Annotated[
        str, typer.Option("--view", help="v1: the leaderboard's rules; modern: lm-eval 0.4.13's; both, with causes.")
    ] = "both",
    baseline: options.Baseline = None,
    metric: options.Metric = None,
    as_json: options.AsJson = False,
    strict: options.Strict = False,
) -> None:
    """Score runs, or lm-eval results of any origin; the leaderboard's tasks also by lm-eval 0.4.13's rules."""
    from smaug_eval.cli.tables.any_tasks import task_tables
    from smaug_eval.cli.tables.views import print_views
    from smaug_eval.results.files import refuse_failures
    from smaug_eval.results.scored import score_paths
    from smaug_eval.results.views import checked_view

    shown = checked_view(view)
    found = score_paths(paths, baseline=baseline, metrics=metric or ())
    if as_json:
        print_result(found.as_list(shown), as_json)
    else:
        print_views(found.views, shown)
        print_result(found.comparison, False, task_tables)
        _print_pairs(found.comparison)
    for note in found.notes:
        print(note, file=sys.stderr)
    if strict:
        refuse_failures(found.unread, "the scores are shown")


def _print_pairs(comparison: Comparison) -> None:
    """Print every pair of three models and more; what writes the sentences is loaded for them alone."""
    if len(comparison.candidates) > 2:
        from smaug_eval.cli.tables.model_pairs import pair_parts

        for part in pair_parts(comparison):
            print_whole(part)


def leaderboard(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run directories, folders or files of lm-eval results to rank; or a folder of runs.",
        ),
    ] = None,
    archive: options.Archive = None,
    suite: Annotated[str, typer.Option("--suite", help="Whose published rows to show: open_llm_v1 or open_llm_v2.")] = (
        "open_llm_v1"
    ),
    include_flagged: Annotated[
        bool, typer.Option("--include-flagged", help="Also rank against models that the leaderboard flagged.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            dir_okay=False,
            help="Page to write: all archived rows with the runs among them; without --archive an index of the runs.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show published rows of the archived leaderboard, where models would have ranked on it, or write a page of all."""
    if html is not None:
        if as_json:
            raise SmaugError("--json prints, and --html writes a page", fix="leave one of them out")
        from smaug_eval.reports.board import build_board

        print(build_board(paths or [], html, archive_file=archive, include_flagged=include_flagged, title=title))
        return
    if title is not None:
        raise SmaugError("--title is the heading of a page", fix="give the page's file with --html, too")
    from smaug_eval.cli.tables.leaderboard import published_table, ranking_text
    from smaug_eval.results import standings

    if archive is not None:
        found = standings.rank(paths or [], archive, include_flagged=include_flagged)
        print_result(found, as_json, ranking_text)
        return
    if paths or include_flagged:
        raise SmaugError(
            "ranking needs the leaderboard's rows",
            fix="give them with --archive FILE.csv[.gz], or write an index of the runs with --html FILE",
        )
    rows = standings.leaderboard_rows(suite)
    if not rows:
        raise SmaugError(f"no published rows of {suite} are kept", fix="name open_llm_v1 or open_llm_v2")
    print_result({"published": rows}, as_json, lambda rows: published_table(rows["published"]))


def dump_requests(
    suite: options.Suite = "open_llm_v1",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Column or task, such as arc_challenge or mmlu_anatomy; may be repeated."),
    ] = None,
    limit: options.Limit = None,
    data_root: options.DataRoot = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template",
            metavar="FILE|MODEL",
            help="Put the prompts of open_llm_v2 into this Jinja file (.jinja), or into the template of this model.",
        ),
    ] = None,
    fewshot_as_multiturn: Annotated[
        bool,
        typer.Option("--fewshot-as-multiturn", help="In a chat template, make each shot a question and an answer."),
    ] = False,
    out: Annotated[str, typer.Option("--out", help="File to write (.jsonl, .jsonl.gz); - for standard output.")] = "-",
) -> None:
    """Write every request of a suite in protocol order, one line per document."""
    from datasets import disable_progress_bars

    from smaug_eval import api
    from smaug_eval.cli.tables.leaderboard import dump_lines

    disable_progress_bars()
    target = sys.stdout.buffer if out == "-" else out
    written = api.dump_requests(
        target,
        suite=suite,
        tasks=task,
        limit=limit,
        data_root=data_root,
        chat_template=chat_template,
        fewshot_as_multiturn=fewshot_as_multiturn,
    )
    for line in dump_lines(written):
        print(line, file=sys.stderr)


def tasks(
    word: Annotated[
        str | None,
        typer.Argument(metavar="[WORD]", help="Part of a name, or a pattern such as 'mmlu_*'; all if left out."),
    ] = None,
    include_path: Annotated[
        str | None, typer.Option("--include-path", metavar="DIR", help="Folder with task YAML of your own.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the tasks, tags and groups of lm-eval that `eval --suite lm_eval --task NAME` takes."""
    from smaug_eval import api
    from smaug_eval.cli.tables.tasks import tasks_table

    print_result(api.list_tasks(word, include_path=include_path), as_json, tasks_table)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(report)
    app.command()(scores)
    app.command()(leaderboard)
    app.command("requests")(dump_requests)
    app.command()(tasks)
