"""Define the verbs that bring results out of the house: publish, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smaug_eval.cli import options
from smaug_eval.cli.verbs import print_result, reporter

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, such as runs/demo.")]


def publish(
    run: RunArgument,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The training of the run to publish.")],
    repo: Annotated[str, typer.Option("--repo", metavar="ORG/NAME", help="The repository on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    weights: Annotated[
        str | None, typer.Option("--weights", help="merged or adapter, of LoRA; what was evaluated if left out.")
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence for the card, such as apache-2.0.")
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="ORG/NAME", help="The base on the Hub, where the run names a folder."),
    ] = None,
    dry_run: options.DryRun = False,
    show_card: Annotated[bool, typer.Option("--show-card", help="Print the model card; publish nothing.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Send a trained model to the Hub (token: HF_TOKEN): checkpoint, model card with the results, and report."""
    from smaug_eval import api
    from smaug_eval.cli.tables.sharing import publication_tables

    with reporter(quiet) as progress:
        found = api.publish(
            run,
            model,
            repo,
            private=private,
            weights=weights,
            license=license_,
            base_model=base_model,
            dry_run=dry_run or show_card,
            reporter=progress,
        )
    if show_card:
        print(found.card, end="")
    else:
        print_result(found.as_dict() if as_json else found, as_json, publication_tables)


def export(
    paths: options.ResultsArgument,
    to: Annotated[str, typer.Option("--to", help="eee (Every Eval Ever 0.3.0), lm-eval (its folders) or csv.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder, of csv a file; export-<format> where left out.")
    ] = None,
    organization: Annotated[str, typer.Option("--organization", help="eee: the name of who measured.")] = "unknown",
    relationship: Annotated[
        str,
        typer.Option(
            "--relationship", help="eee: of who measured to the model's developer: first_party, third_party, ..."
        ),
    ] = "other",
    force: Annotated[bool, typer.Option("--force", help="Write where there are files already.")] = False,
) -> None:
    """Export results in other programs' formats."""
    from smaug_eval import api

    for file in api.export(paths, to, out, organization=organization, relationship=relationship, force=force):
        print(file)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(publish)
    app.command()(export)
