"""Define the verb that rules on a run for a pipeline: gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smaug_eval.cli import options
from smaug_eval.cli.verbs import print_result
from smaug_eval.common.errors import SmaugError


def gate(
    run: Annotated[
        Path, typer.Argument(help="Run directory, file or folder of results, or folder of a training, to judge.")
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="PATH|MODEL",
            help="What to compare with: another run or results, or a model of RUN; its model base if left out.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", dir_okay=False, help="YAML with what is required; no average and no column worse else."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Model of RUN to judge; all but the baseline if left out; may be repeated."),
    ] = None,
    baseline_model: Annotated[
        str | None, typer.Option("--baseline-model", help="Which model, where the path of --baseline holds several.")
    ] = None,
    metric: options.Metric = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", dir_okay=False, help="JUnit XML to write, for a pipeline's test report.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary", dir_okay=False, help="Markdown to append the summary to, such as $GITHUB_STEP_SUMMARY."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", dir_okay=False, help="JSON file to write.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Judge a run for a pipeline; exit code 0: pass, 4: fail, 5: the results cannot tell."""
    from smaug_eval import api
    from smaug_eval.cli.tables.gate import gate_tables
    from smaug_eval.results.files import Unreadable

    try:
        found = api.gate(
            run,
            baseline,
            policy=policy,
            models=model or (),
            baseline_model=baseline_model,
            metrics=metric or (),
            junit=junit,
            summary=summary,
            out=out,
        )
    except Unreadable as error:  # a pipeline knows bad input by its exit code
        raise SmaugError(error.message, fix=error.fix) from error
    print_result(found.as_dict() if as_json else found, as_json, gate_tables)
    raise typer.Exit(found.exit_code)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(gate)
